"""What publishes this project: studies, stand-in datasets, figures and tables of `results/`.

Uses `pipeline` as a user would; nothing else imports it.
"""

"""One thin module per DVC stage; reading the folder is reading the DAG."""

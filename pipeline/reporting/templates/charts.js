/* Charts by Plotly in the colours of the page, light or dark, wide or narrow. */
const NARROW = 640, PLOT = 300, LINE = 19;

function layoutOf(node, chart) {
  const style = getComputedStyle(document.documentElement);
  const [ink, line, paper] = ["--ink", "--line", "--paper"].map(name => style.getPropertyValue(name).trim());
  const narrow = node.clientWidth < NARROW;
  const axis = { gridcolor: line, zeroline: false, linecolor: line, automargin: true, exponentformat: "power" };
  const layout = {
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", hovermode: "closest",
    font: { color: ink, family: style.getPropertyValue("font-family"), size: 12 },
    hoverlabel: { bgcolor: paper, bordercolor: line, font: { color: ink } },
    margin: { l: 8, r: 8, t: 8, b: 44 }, ...chart.layout,
    xaxis: { ...axis, ...chart.layout.xaxis }, yaxis: { ...axis, ...chart.layout.yaxis },
  };
  if (!narrow) return layout;
  if (layout.showlegend && !chart.layout.legend) {
    const legend = LINE * chart.data.length;
    layout.height = PLOT + legend + 70;
    layout.margin = { ...layout.margin, b: legend + 60 };
    layout.legend = { x: 0, xanchor: "left", y: -50 / PLOT, yanchor: "top" };
    layout.yaxis.title = { ...layout.yaxis.title, standoff: 4 };
  }
  if (chart.rows) {  // their names stand above them, not next to them
    layout.height = 60 + 34 * chart.rows.length;
    layout.yaxis.showticklabels = false;
    layout.annotations = chart.rows.map((text, y) => ({
      text, y, x: 0, xref: "paper", xanchor: "left", yshift: 11, showarrow: false, font: { size: 11 },
    }));
  }
  return layout;
}

function draw() {
  for (const node of document.querySelectorAll(".chart")) {
    const chart = JSON.parse(node.nextElementSibling.textContent);
    Plotly.react(node, chart.data, layoutOf(node, chart), { displayModeBar: false, responsive: true });
  }
}

let width = innerWidth;
addEventListener("resize", () => { if (innerWidth !== width) { width = innerWidth; draw(); } });
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
draw();

/* Tables sort by a click on a column's title; long ones have a field that filters their rows.
   A print opens what is folded. */
const LONG = 10;

function value(cell) {
  const text = cell.firstChild ? cell.firstChild.textContent.trim() : "";
  const number = text.match(/-?\d[\d,]*(\.\d+)?(e[-+]?\d+)?/i);
  return { text, number: number && !/^[a-z]/i.test(text) ? parseFloat(number[0].replaceAll(",", "")) : null };
}

function compare(one, other) {
  if (one.number !== null && other.number !== null) return one.number - other.number;
  if ((one.number === null) !== (other.number === null)) return one.number === null ? 1 : -1;
  return one.text.localeCompare(other.text);
}

function sort(table, title, column) {
  const up = title.getAttribute("aria-sort") !== "ascending";
  table.querySelectorAll("thead th").forEach(other => other.removeAttribute("aria-sort"));
  title.setAttribute("aria-sort", up ? "ascending" : "descending");
  const rows = [...table.tBodies[0].rows].map(row => [value(row.cells[column]), row]);
  rows.sort((a, b) => up ? compare(a[0], b[0]) : compare(b[0], a[0]));
  table.tBodies[0].append(...rows.map(([, row]) => row));
}

function filter(table) {
  const field = Object.assign(document.createElement("input"), {
    type: "search", placeholder: "filter rows", ariaLabel: `filter: ${table.caption.textContent}`,
  });
  field.oninput = () => {
    const words = field.value.toLowerCase().split(/\s+/);
    for (const row of table.tBodies[0].rows) {
      const text = row.textContent.toLowerCase();
      row.hidden = !words.every(word => text.includes(word));
    }
  };
  table.parentElement.before(field);
}

for (const table of document.querySelectorAll(".scroll > table")) {
  if (table.tBodies[0].rows.length < 2) continue;
  table.querySelectorAll("thead th").forEach((title, column) => {
    const button = document.createElement("button");
    button.append(...title.childNodes);
    button.onclick = () => sort(table, title, column);
    title.append(button);
  });
  if (table.tBodies[0].rows.length > LONG) filter(table);
}

let closed = [];
addEventListener("beforeprint", () => {
  closed = [...document.querySelectorAll("details:not([open])")];
  closed.forEach(one => { one.open = true; });
});
addEventListener("afterprint", () => closed.forEach(one => { one.open = false; }));

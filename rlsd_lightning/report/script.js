"use strict";
document.documentElement.classList.add("scripted");

const format = {
  percent: (v) => (100 * v).toFixed(Math.abs(v) < 0.9995 ? 1 : 0) + "%",
  count: (v) => Math.round(v).toLocaleString("en"),
  seconds: (v) => (v < 10 ? v.toFixed(2) : Math.round(v).toLocaleString("en")) + " s",
  factor: (v) => v.toFixed(3),
  number: (v) => (Math.abs(v) < 1000 ? String(+v.toPrecision(3)) : Math.round(v).toLocaleString("en")),
};

// Curves: the pointer over any chart chooses a step, and all charts say their values there.
const charts = [...document.querySelectorAll("figure[data-chart]")].map((figure) => ({
  ...JSON.parse(figure.dataset.chart),
  outputs: [...figure.querySelectorAll("output")].map((node) => ({ node, last: node.textContent })),
  at: figure.querySelector(".at"),
  pictures: [...figure.querySelectorAll("svg")],
}));

function nearest(xs, step) {
  let best = 0;
  for (let i = 1; i < xs.length; i++) if (Math.abs(xs[i] - step) < Math.abs(xs[best] - step)) best = i;
  return best;
}

function showStep(step) {
  for (const chart of charts) {
    const [first, last] = chart.steps;
    chart.series.forEach(({ x, y, dots }, i) => {
      const place = nearest(x, step), value = y[place];
      const where = dots && x[place] !== step ? " at " + x[place] : "";
      chart.outputs[i].node.textContent = (value === null ? "not finite" : format[chart.kind](value)) + where;
    });
    chart.at.textContent = "step " + step.toLocaleString("en");
    for (const svg of chart.pictures) {
      const left = +svg.dataset.left, right = +svg.dataset.right;
      const x = left + ((step - first) / (last - first || 1)) * (right - left);
      const cursor = svg.querySelector(".cursor");
      cursor.setAttribute("d", cursor.getAttribute("d").replace(/^M[\d.]+/, "M" + x.toFixed(1)));
      cursor.classList.add("on");
    }
  }
}

function showLast() {
  for (const chart of charts) {
    for (const { node, last } of chart.outputs) node.textContent = last;
    chart.at.textContent = "";
    for (const svg of chart.pictures) svg.querySelector(".cursor").classList.remove("on");
  }
}

for (const chart of charts) {
  for (const svg of chart.pictures) {
    svg.addEventListener("pointermove", (event) => {
      const box = svg.getBoundingClientRect();
      const left = +svg.dataset.left, right = +svg.dataset.right, [first, last] = chart.steps;
      const inside = ((event.clientX - box.left) / box.width) * svg.viewBox.baseVal.width;
      const share = Math.min(1, Math.max(0, (inside - left) / (right - left)));
      showStep(Math.round(first + share * (last - first)));
    });
    svg.addEventListener("pointerleave", showLast);
  }
}

// Tokens: the pointer over a token shows its numbers.
const tip = document.getElementById("tip");
const signed = (v) => (v > 0 ? "+" : "") + v.toFixed(3);
const chance = (v) => `${v.toFixed(3)}  (${(100 * Math.exp(v)).toPrecision(3)}%)`;
const ROWS = [["policy", chance], ["teacher", chance], ["gain", signed], ["weight", (v) => v.toFixed(3)], ["credit", signed]];

function tokenRows(token) {
  const line = token.parentNode;
  line.numbers ??= JSON.parse(line.dataset.numbers);
  line.tokens ??= [...line.querySelectorAll("i")];
  const index = line.tokens.indexOf(token);
  return ROWS.map(([name, text], i) => [name, line.numbers[i][index] === null ? "none" : text(line.numbers[i][index])]);
}

function showTip(token) {
  const title = document.createElement("b");
  title.textContent = JSON.stringify(token.textContent.replace(/[\u21b5\u21e5](?=\s)/g, ""));
  const table = document.createElement("table");
  for (const [name, text] of tokenRows(token)) {
    const row = table.insertRow();
    row.insertCell().textContent = name;
    row.insertCell().textContent = text;
  }
  if (token.classList.contains("clip")) table.rows[3].cells[1].textContent += "  clipped";
  tip.replaceChildren(title, table);
  tip.hidden = false;
  const at = token.getClientRects()[0], own = tip.getBoundingClientRect();
  const below = at.bottom + 8 + own.height < innerHeight;
  tip.style.left = Math.max(8, Math.min(at.left, innerWidth - own.width - 8)) + "px";
  tip.style.top = (below ? at.bottom + 8 : at.top - own.height - 8) + "px";
}

document.addEventListener("pointerover", (event) => {
  const token = event.target.closest(".tokens[data-numbers] > i");
  if (token) showTip(token);
  else tip.hidden = true;
});
addEventListener("scroll", () => (tip.hidden = true), { passive: true });

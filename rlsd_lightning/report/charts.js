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

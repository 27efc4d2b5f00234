"use strict";
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
  const rows = ROWS.map(([name, text], i) => [name, line.numbers[i][index] === null ? "none" : text(line.numbers[i][index])]);
  return [...rows, ["advantage", signed(+line.dataset.advantage)]];
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

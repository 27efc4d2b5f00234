// One problem at a time; the pages of other steps are those that steps.js lists.
document.documentElement.classList.add("scripted");
for (const image of document.querySelectorAll("img[data-same-as]")) image.src = document.getElementById(image.dataset.sameAs).src;

const cards = [...document.querySelectorAll(".steps-list > .card")];
const byId = (id) => document.getElementById(id);
let problem = 0;

function showProblem(index) {
  if (!cards[index]) return;
  problem = index;
  cards.forEach((card, i) => (card.hidden = i !== index));
  byId("place").textContent = `problem ${index + 1} of ${cards.length}`;
  byId("previous-problem").disabled = index === 0;
  byId("next-problem").disabled = index === cards.length - 1;
  tip.hidden = true;
}

const views = [...document.querySelectorAll('input[name="view"]')];
const view = () => views.find((input) => input.checked).id.slice("view-".length);
const wanted = views.find((input) => input.id === "view-" + location.hash.slice(1));
if (wanted) wanted.checked = true;

function linkSteps() {
  const own = +document.body.dataset.step, steps = window.HEATMAP_STEPS ?? [];
  const near = { "previous-step": steps.filter((s) => s < own).at(-1), "next-step": steps.find((s) => s > own) };
  for (const [id, step] of Object.entries(near)) {
    if (step === undefined) continue;
    byId(id).href = `step_${String(step).padStart(8, "0")}.html#${view()}`;
    byId(id).title = `step ${step.toLocaleString("en")} (${byId(id).title})`;
  }
}

function linkView() {
  for (const id of ["previous-step", "next-step"]) if (byId(id).hash) byId(id).hash = view();
}

linkSteps();
for (const input of views) input.addEventListener("change", linkView);
if (cards.length) {
  showProblem(0);
  byId("previous-problem").addEventListener("click", () => showProblem(problem - 1));
  byId("next-problem").addEventListener("click", () => showProblem(problem + 1));
}
addEventListener("keydown", (event) => {
  const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
  if (!by || event.altKey || event.ctrlKey || event.metaKey) return;
  event.preventDefault(); // in the switch of views the same keys would choose another view
  if (event.shiftKey) byId(by > 0 ? "next-step" : "previous-step").click();
  else showProblem(problem + by);
});

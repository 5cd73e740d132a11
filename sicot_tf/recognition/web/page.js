// From a photo to the panel: what the page does when.
import { Boxes } from "./boxes.js";
import { showPanel, showWaiting } from "./panel.js";
import { fit, hasCamera, pictureOf, takePhoto } from "./photo.js";
import { Failure, products, recognise, report } from "./service.js";
import { isLookedFor, Similar } from "./similar.js";
import {
  nameOf,
  showChoices,
  showFailure,
  showLookedFor,
  showNumbers,
} from "./view.js";
import { percent, switchLanguage, translate, words } from "./words.js";

// Keys are pressed several times before a box lies right.
const PAUSE = 600;

const at = (id) => document.getElementById(id);
// `size`: of the photo in the service's pixels, which boxes are in.
// `shown`: an alternative looked at instead; `again`: repeats what failed.
const state = {
  photo: null,
  size: null,
  objects: [],
  chosen: 0,
  shown: null,
  failure: null,
  again: null,
};
let starting = null;
let asking = null;
let pause = 0;

const boxes = new Boxes(at("stage"), { onChoose: choose, onChange: changeBox });
const similar = new Similar(at("results"), {
  say,
  focusOn,
  lookAgain,
});

async function start(file) {
  if (!file) return fail(new Failure("noImage"), null);
  stop();
  // Of two photos the last one counts, whichever is read first.
  starting = file;
  let photo;
  try {
    photo = await fit(file);
  } catch (error) {
    return fail(error, null);
  }
  if (starting !== file) return;
  if (state.photo) URL.revokeObjectURL(at("shown").src);
  Object.assign(state, { photo, objects: [], chosen: 0, shown: null });
  const shown = at("shown");
  shown.src = URL.createObjectURL(photo);
  await shown.decode().catch(() => {});
  at("stage").style.setProperty(
    "--ratio",
    shown.naturalWidth / shown.naturalHeight,
  );
  await ask(null);
}

/** Asks for the whole photo, or for the new box of an object. */
async function ask(box, index = 0) {
  stop();
  const mine = (asking = new AbortController());
  state.failure = null;
  show();
  say(words.looking);
  try {
    const answer = await recognise(state.photo, box, mine.signal);
    if (mine.signal.aborted) return;
    const objects = answer.objects.map((each) => ({ ...each, answer }));
    // The other objects of the photo are still there.
    if (box) state.objects[index] = objects[0];
    else {
      // A product that is recognised before a guess at the main object.
      const recognised = objects.findIndex((each) => each.recognised);
      Object.assign(state, { objects, chosen: Math.max(recognised, 0) });
    }
    if (!box || state.chosen === index) state.shown = null;
    state.size = answer.photo;
    asking = null;
    show();
    tell(state.objects[box ? index : state.chosen], box);
  } catch (error) {
    if (mine.signal.aborted) return;
    asking = null;
    fail(error, () => ask(box, index));
  }
}

function stop() {
  clearTimeout(pause);
  asking?.abort();
  asking = null;
}

function tell(object, box) {
  const many = box ? "" : words.statusObjects(state.objects.length);
  say(`${verdict(object)} ${many} ${similar.verdict()}`);
  // Whoever moves a box stays at it.
  if (!box || document.activeElement === document.body) focusOn(at("finding"));
  report("impression", object.answer, object);
}

function verdict(object) {
  const { statusRecognised, statusNotRecognised } = words;
  const status = object.recognised ? statusRecognised : statusNotRecognised;
  return status(nameOf(object), percent(object.score));
}

function fail(error, again) {
  const failure = error instanceof Failure ? error : new Failure("broken");
  if (failure !== error) console.error(error);
  const isPhotos = ["tooLarge", "refused", "unreadable"].includes(failure.kind);
  Object.assign(state, { failure, again: isPhotos ? null : again });
  say("");
  show();
  const retry = at("failure").querySelector("input, button");
  if (!at("stage").contains(document.activeElement)) focusOn(retry);
}

function choose(index) {
  Object.assign(state, { chosen: index, shown: null });
  show();
  say(verdict(state.objects[index]));
  boxes.buttons[index].focus({ preventScroll: true });
}

function changeBox(box, done) {
  const { chosen } = state;
  state.objects[chosen].box = box;
  showNumbers(state.objects[chosen], state.size);
  // An answer that comes now would move the box away.
  stop();
  if (!done) return;
  say(words.boxMoved);
  pause = setTimeout(() => ask(box, chosen), PAUSE);
}

async function look(alternative) {
  let shown = alternative;
  // A nearest picture comes without its product, and its distance is no score.
  if (shown && !("product" in shown)) {
    try {
      shown = await find(shown);
    } catch (error) {
      return fail(error, () => look(alternative));
    }
  }
  Object.assign(state, { failure: null, shown });
  show();
  focusOn(at("finding"));
  if (shown) clicked(shown.sku_id);
}

async function find({ sku_id: skuId, product_id: productId }) {
  const { alternatives } = state.objects[state.chosen];
  const known = alternatives.find((each) => each.sku_id === skuId);
  if (known) return known;
  const found = await products(skuId);
  const product = found.find((each) => each.product_id === productId);
  return { sku_id: skuId, score: null, product: product ?? found[0] ?? null };
}

/** For the results only: their query has become too old. */
function lookAgain() {
  const { box, box_from: from } = state.objects[state.chosen];
  ask(from === "user" ? box : null, state.chosen);
}

function clicked(skuId) {
  const { answer, recognised } = state.objects[state.chosen];
  report("click", answer, { sku_id: skuId, recognised });
}

function say(text) {
  at("status").textContent = text;
}

function focusOn(target) {
  target?.focus({ preventScroll: true });
  // With what stands below it: not at the lower edge of the screen.
  const { top } = target.getBoundingClientRect();
  if (top > 0 && top < innerHeight / 2) return;
  const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
  target.scrollIntoView({ block: "start", behavior: calm ? "auto" : "smooth" });
}

/** Draws the page as `state` says. */
function show() {
  const { photo, objects, chosen, shown, failure } = state;
  document.body.classList.toggle("has-photo", Boolean(photo));
  document.body.classList.toggle("looking", Boolean(asking));
  at("choose").textContent = photo ? words.another : words.choose;
  at("language").textContent = words.other;
  at("language").lang = words.otherLanguage;
  at("shown").alt = words.photoAlt;
  at("result").hidden = !photo;
  showFailure(failure, state.again);
  boxes.show(
    state.size,
    objects.map((each) => each.box),
    objects.map((each, index) => words.box(index + 1, nameOf(each))),
    chosen,
  );
  showChoices(objects, chosen, state.size, choose);
  showNumbers(objects[chosen], state.size);
  const panel = at("panel");
  panel.hidden = !objects.length && !asking;
  panel.ariaBusy = String(Boolean(asking));
  if (objects.length) {
    const object = objects[chosen];
    showPanel(panel, { object, shown, onShow: look, onClick: clicked });
  } else {
    showWaiting(panel);
  }
  const object = objects[chosen];
  similar.show(object?.answer, {
    isBusy: Boolean(asking),
    onObject: isLookedFor(objects, chosen)
      ? null
      : () => ask(object.box, chosen),
  });
  showLookedFor(object?.answer.search, state.size);
}

function onFile(event) {
  const [file] = event.target.files;
  // So that the same file can be chosen again.
  event.target.value = "";
  if (file) start(file);
}

for (const id of ["file", "capture"]) at(id).addEventListener("change", onFile);
at("choose").addEventListener("click", () => at("file").click());
// Phones take better photos themselves than a page does.
const isPhone = matchMedia("(pointer: coarse)").matches;
at("open-camera").hidden = !isPhone && !hasCamera();
at("open-camera").addEventListener("click", async () => {
  if (isPhone) return at("capture").click();
  try {
    const photo = await takePhoto(at("camera"));
    if (photo) start(photo);
  } catch (error) {
    fail(error, null);
  }
});
at("take").addEventListener("click", () => at("camera").close("take"));
at("close-camera").addEventListener("click", () => at("camera").close());

const isText = (target) => target.closest?.("input") != null;
document.addEventListener("paste", (event) => {
  const file = pictureOf(event.clipboardData);
  if (file || !isText(event.target)) start(file);
});
document.addEventListener("dragover", (event) => {
  event.preventDefault();
  document.body.classList.add("dropping");
});
document.addEventListener("dragleave", (event) => {
  if (!event.relatedTarget) document.body.classList.remove("dropping");
});
document.addEventListener("drop", (event) => {
  event.preventDefault();
  document.body.classList.remove("dropping");
  start(pictureOf(event.dataTransfer));
});

at("whole").addEventListener("click", () => {
  const { width, height } = state.size;
  boxes.set([0, 0, width, height], true);
});
at("numbers").addEventListener("change", ({ target }) => {
  const inputs = [...at("numbers").querySelectorAll("input")];
  const box = inputs.map((each) => Math.round(each.valueAsNumber));
  if (box.some(Number.isNaN)) return;
  boxes.set(boxes.pushed(box, inputs.indexOf(target)), true);
});
at("language").addEventListener("click", () => {
  switchLanguage();
  show();
});

translate();
show();
report("visit");

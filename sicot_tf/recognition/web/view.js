// What is beside the panel: objects to choose from, the box in numbers, and
// what went wrong.
import { element, foreign } from "./elements.js";
import { useKey } from "./service.js";
import { percent, words } from "./words.js";

const THUMBNAIL = 96;

const at = (id) => document.getElementById(id);

/** What an object is called. */
export function nameOf(object) {
  return object.product?.title || object.sku_id;
}

/** A button for each of several objects; `onChoose(index)` if it is pressed. */
export function showChoices(objects, chosen, size, onChoose) {
  at("by-hand").hidden = !objects.length;
  const list = at("objects");
  list.ariaLabel = words.objects;
  list.hidden = objects.length < 2;
  list.replaceChildren(
    ...objects.map((object, index) => {
      const button = element(
        "button",
        { type: "button", ariaPressed: String(index === chosen) },
        cutOut(object.box, size),
        foreign("span", nameOf(object), { className: "name" }),
        element("small", {
          textContent: object.recognised ? percent(object.score) : words.unsure,
        }),
      );
      button.addEventListener("click", () => {
        onChoose(index);
        // The list is new by now.
        list.children[index].firstChild.focus();
      });
      return element("li", {}, button);
    }),
  );
}

/** A square that shows a box of the photo. */
function cutOut([left, top, right, bottom], size) {
  const canvas = element("canvas", { width: THUMBNAIL, height: THUMBNAIL });
  canvas.ariaHidden = "true";
  const photo = at("shown");
  // The photo is as large as it was sent, unless the service shrank it.
  const scale = photo.naturalWidth / size.width;
  const [width, height] = [right - left, bottom - top];
  const side = Math.max(width, height);
  const context = canvas.getContext("2d");
  context.scale(THUMBNAIL / side, THUMBNAIL / side);
  context.translate((side - width) / 2, (side - height) / 2);
  context.drawImage(
    photo,
    ...[left, top, width, height].map((each) => scale * each),
    ...[0, 0, width, height],
  );
  return canvas;
}

/** The chosen object's box in the four fields. */
export function showNumbers(object, size) {
  if (!object) return;
  for (const [side, input] of at("numbers")
    .querySelectorAll("input")
    .entries()) {
    input.max = side % 2 ? size.height : size.width;
    input.value = object.box[side];
  }
}

/** An outline around what the model, not the user, chose to look for. */
export function showLookedFor(search, size) {
  const mark = at("looked-for");
  mark.hidden = search?.box_from !== "search" || !search.box;
  if (mark.hidden) return;
  const [left, top, right, bottom] = search.box;
  Object.assign(mark.style, {
    left: `${(100 * left) / size.width}%`,
    top: `${(100 * top) / size.height}%`,
    width: `${(100 * (right - left)) / size.width}%`,
    height: `${(100 * (bottom - top)) / size.height}%`,
  });
}

/** A sentence, and a button that tries again or chooses another photo. */
export function showFailure(failure, again, place = at("failure")) {
  if (!failure) return place.replaceChildren();
  const key = element("input", { type: "password", autocomplete: "off" });
  const form = element(
    "form",
    { className: "failure" },
    element("p", { textContent: words.failures[failure.kind] }),
    failure.kind === "key" &&
      element("label", {}, element("span", { textContent: words.key }), key),
    element("button", {
      className: "main",
      textContent: again ? words.retry : words.choose,
    }),
    failure.detail &&
      element("p", {
        className: "hint",
        lang: "en",
        textContent: failure.detail,
      }),
  );
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    if (key.value) useKey(key.value);
    if (again) again();
    else at("file").click();
  });
  place.replaceChildren(form);
}

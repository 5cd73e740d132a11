// What the similar products can be narrowed to, and in which order they come.
import { element, foreign } from "./elements.js";
import { words } from "./words.js";

const NONE = { category_filter: "", min_price: "", max_price: "", tags: "" };
const FIELDS = ["category_filter", "min_price", "max_price", "ordered_by"];
const TAGS = 12;

export class Controls {
  /** `onChange()` once the wishes of the view that is shown have changed. */
  constructor(onChange) {
    this.onChange = onChange;
    this.form = element("form", { className: "filters" });
    this.form.addEventListener("submit", (event) => event.preventDefault());
    // A field that was drawn anew while one typed tells no change.
    for (const each of ["change", "focusout"]) {
      this.form.addEventListener(each, () => this.read());
    }
    this.form.addEventListener("keydown", ({ key }) => {
      if (key === "Enter") this.read();
    });
    this.isBuilding = false;
    // So that a phone begins with the products.
    this.isOpen = matchMedia("(min-width: 54rem)").matches;
  }

  /** Shows a view of similar.js; who is at a field stays there. */
  show(view) {
    this.view = view;
    const facets = JSON.stringify(view.search.facets);
    const state = [view, words, facets];
    if (state.some((each, index) => each !== this.drawn?.[index])) {
      this.drawn = state;
      this.build();
    } else {
      this.update();
    }
  }

  build() {
    const { form, view } = this;
    const { facets } = view.search;
    const focused = form.contains(document.activeElement)
      ? document.activeElement
      : null;
    this.summary = element("summary");
    this.summary.dataset.key = "summary";
    this.clearing = element("button", {
      type: "button",
      className: "quiet",
      textContent: words.clear,
    });
    this.clearing.addEventListener("click", () => this.clear());
    const fields = [
      this.categories(view),
      ...this.prices(view.wishes, facets),
      this.orders(view),
      this.tags(view.wishes, facets),
    ].filter(Boolean);
    this.mistake = element("p", { className: "mistake", role: "status" });
    form.hidden = !fields.length;
    const details = element(
      "details",
      { open: this.isOpen },
      this.summary,
      element("div", { className: "fields" }, fields, this.mistake, this.clearing),
    );
    details.addEventListener("toggle", () => {
      this.isOpen = details.open;
    });
    this.isBuilding = true;
    form.replaceChildren(details);
    this.isBuilding = false;
    // While nothing has the focus: all fields, but for what was being typed.
    this.update();
    if (!focused) return;
    const again = this.at(focused.dataset.key);
    if (again?.matches("input")) again.value = focused.value;
    (again ?? this.summary).focus({ preventScroll: true });
  }

  update() {
    const { wishes } = this.view;
    const number = this.number();
    this.summary.textContent = words.filters(number);
    this.clearing.hidden = !number;
    const chosen = tagsOf(wishes);
    for (const each of this.form.querySelectorAll("[data-key]")) {
      const { key, tag } = each.dataset;
      if (tag != null) each.ariaPressed = String(chosen.includes(tag));
      // Nobody's text is taken away while it is typed.
      else if (FIELDS.includes(key) && each !== document.activeElement) {
        each.value = wishes[key];
      }
    }
    this.mistake.textContent = "";
  }

  at(key) {
    const all = [...this.form.querySelectorAll("[data-key]")];
    return all.find((each) => each.dataset.key === key);
  }

  /** Takes all filters away; the order stays. */
  clear() {
    Object.assign(this.view.wishes, NONE);
    // Before the focus goes: what has lost it is read.
    this.update();
    this.summary.focus({ preventScroll: true });
    this.onChange();
  }

  number() {
    const { wishes } = this.view;
    const { category_filter: category, min_price, max_price } = wishes;
    const fields = [category, min_price, max_price].filter(Boolean);
    return fields.length + tagsOf(wishes).length;
  }

  /** Takes the fields' values, and asks if they are others. */
  read() {
    if (this.isBuilding) return;
    const { wishes } = this.view;
    const value = (key) => this.at(key)?.value ?? wishes[key];
    const read = Object.fromEntries(FIELDS.map((key) => [key, value(key)]));
    const { min_price: least, max_price: most } = read;
    // Whoever raises both is at the first of them.
    const isCrossed = least && most && Number(least) > Number(most);
    this.mistake.textContent = isCrossed ? words.crossedPrices : "";
    if (isCrossed) return;
    if (FIELDS.every((key) => read[key] === wishes[key])) return;
    Object.assign(wishes, read);
    this.onChange();
  }

  categories({ first }) {
    const found = Object.entries(first.facets.categories);
    if (found.length < 2) return null;
    return labelled(
      words.category,
      select(
        "category_filter",
        [
          ["", words.anyCategory],
          ...found.map(([name, number]) => [name, words.named(name, number)]),
        ],
      ),
    );
  }

  prices(wishes, facets) {
    const isThere =
      facets.min_price != null || wishes.min_price || wishes.max_price;
    if (!isThere) return [];
    return [
      ["min_price", words.leastPrice],
      ["max_price", words.mostPrice],
    ].map(([key, name]) => {
      const field = element("input", {
        type: "number",
        inputMode: "decimal",
        step: "any",
        placeholder: facets[key] ?? "",
      });
      field.dataset.key = key;
      return labelled(name, field);
    });
  }

  orders({ first }) {
    // Without a ranker there is one order.
    if (first.ordered_by !== "quality") return null;
    const orders = Object.entries(words.orders);
    return labelled(
      words.order,
      select("ordered_by", orders),
    );
  }

  tags(wishes, facets) {
    const found = Object.entries(facets.tags)
      // The service takes several with commas between.
      .filter(([tag]) => !tag.includes(","))
      .slice(0, TAGS);
    for (const tag of tagsOf(wishes)) {
      if (!found.some(([name]) => name === tag)) found.push([tag, 0]);
    }
    if (!found.length) return null;
    return element(
      "ul",
      { className: "tag-filters", ariaLabel: words.tags },
      found.map(([tag, number]) => element("li", {}, this.tag(tag, number))),
    );
  }

  tag(tag, number) {
    const button = element(
      "button",
      { type: "button" },
      foreign("span", tag),
      ` ${number}`,
    );
    Object.assign(button.dataset, { key: `tag ${tag}`, tag });
    button.addEventListener("click", () => {
      const { wishes } = this.view;
      const chosen = tagsOf(wishes);
      const left = chosen.filter((each) => each !== tag);
      if (left.length === chosen.length) left.push(tag);
      wishes.tags = left.join(",");
      this.onChange();
    });
    return button;
  }
}

function tagsOf({ tags }) {
  return tags ? tags.split(",") : [];
}

function labelled(text, field) {
  return element("label", {}, element("span", { textContent: text }), field);
}

function select(key, options) {
  const made = element(
    "select",
    {},
    options.map(([value, text]) =>
      element("option", { value, textContent: text }),
    ),
  );
  made.dataset.key = key;
  return made;
}

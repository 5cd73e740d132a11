// Similar products under the panel: asks for their pages and filters, by the
// query that came with the answer. The photo is not sent again.
import { Controls } from "./filters.js";
import { element } from "./elements.js";
import { showResults } from "./results.js";
import { Failure, report, search } from "./service.js";
import { showFailure } from "./view.js";
import { words } from "./words.js";

export class Similar {
  /**
   * `say(text)` tells what has changed, `focusOn(element)` goes there;
   * `lookAgain()` looks the photo up anew.
   */
  constructor(section, { say, focusOn, lookAgain }) {
    Object.assign(this, { section, say, focusOn, lookAgain });
    // Of an answer: whoever comes back to an object finds it as it was left.
    this.views = new WeakMap();
    this.view = null;
    this.controls = new Controls(() => this.ask(1));
    this.failure = element("div", { role: "alert" });
    this.list = element("div", { className: "found-products" });
  }

  /** Shows what an answer found; `onObject` looks for another object. */
  show(answer, { isBusy, onObject }) {
    this.section.hidden = !answer?.search;
    Object.assign(this, { isBusy, onObject });
    if (this.section.hidden) return void (this.view = null);
    if (!this.views.has(answer)) this.views.set(answer, this.begin(answer));
    this.view = this.views.get(answer);
    this.draw();
  }

  /** What a screen reader is told of it. */
  verdict() {
    return this.view ? words.statusResults(this.view.search.total) : "";
  }

  begin(answer) {
    const { search } = answer;
    return this.shown({
      answer,
      // Its facets are of all categories, its order is the best there is.
      first: search,
      wishes: {
        category_filter: "",
        min_price: "",
        max_price: "",
        tags: "",
        ordered_by: search.ordered_by,
      },
      search,
      results: search.results,
      failure: null,
      asking: null,
      // The page that is asked for, or was in vain.
      wanted: null,
    });
  }

  /** Tells which products a visitor sees, from which place on. */
  shown(view, added = view.results) {
    if (added.length) {
      report("impression", view.answer, {
        shown: added.map(({ product }) => product.product_id),
        position: view.results.length - added.length + 1,
      });
    }
    return view;
  }

  async ask(page) {
    const { view } = this;
    view.asking?.abort();
    view.wanted = page;
    const mine = (view.asking = new AbortController());
    view.failure = null;
    this.draw();
    try {
      const answer = await search(
        {
          ...view.wishes,
          query: view.first.query,
          page,
          page_size: view.first.page_size,
        },
        mine.signal,
      );
      if (mine.signal.aborted) return;
      this.take(view, answer, page);
    } catch (error) {
      if (mine.signal.aborted) return;
      view.asking = null;
      this.fail(view, error, page);
    }
  }

  take(view, answer, page) {
    Object.assign(view, { asking: null, wanted: null, search: answer.search });
    if (page === 1) {
      // Results of their own: what is clicked there was shown there.
      Object.assign(view, { answer, results: answer.search.results });
      this.shown(view);
      if (view !== this.view) return;
      this.draw();
      this.say(words.statusResults(answer.search.total));
      return;
    }
    // The index may have changed between two pages.
    const known = new Set(view.results.map(({ product }) => product.product_id));
    const added = answer.search.results.filter(
      ({ product }) => !known.has(product.product_id),
    );
    view.results = [...view.results, ...added];
    this.shown(view, added);
    if (view !== this.view) return;
    this.draw();
    this.say(
      words.statusMore(added.length, view.results.length, view.search.total),
    );
    const first = this.list.querySelectorAll("li.item")[
      view.results.length - added.length
    ];
    if (first) this.focusOn(first.querySelector("a") ?? first);
  }

  fail(view, error, page) {
    let failure = error instanceof Failure ? error : new Failure("broken");
    if (failure !== error) console.error(error);
    // A query of a model that is no more.
    if (failure.kind === "refused") {
      failure = new Failure("stale", failure.detail);
    }
    const again =
      failure.kind === "stale" ? this.lookAgain : () => this.ask(page);
    view.failure = { failure, again };
    this.say("");
    if (view !== this.view) return;
    this.draw();
    this.focusOn(this.failure.querySelector("input, button"));
  }

  draw() {
    const { view, section } = this;
    section.ariaBusy = String(this.isBusy || Boolean(view.asking));
    this.controls.show(view);
    showFailure(view.failure?.failure, view.failure?.again, this.failure);
    this.drawList(view);
    const heading = this.heading(view);
    if (section.children.length) section.firstChild.replaceWith(heading);
    else section.append(heading, this.controls.form, this.failure, this.list);
  }

  /** Only if it has changed: what has the focus stays, and pictures do. */
  drawList(view) {
    const state = [view.results, view.search, words];
    if (state.every((each, index) => each === this.drawn?.[index])) return;
    this.drawn = state;
    showResults(this.list, view, {
      // Not behind what was shown before a filter that is still wanted.
      onMore: () => this.ask(view.wanted === 1 ? 1 : view.search.page + 1),
      onClear: () => this.controls.clear(),
      onClick: (product, position) =>
        report("click", view.answer, {
          sku_id: product.sku_id,
          product_id: product.product_id,
          position,
        }),
    });
  }

  heading({ first }) {
    const lookForObject =
      this.onObject &&
      element("button", { type: "button", textContent: words.lookForObject });
    lookForObject?.addEventListener("click", this.onObject);
    return element(
      "div",
      { className: "results-head" },
      element("h2", { id: "results-name", textContent: words.results }),
      first.box_from &&
        element("p", {
          className: "hint",
          textContent: words.lookedFor[first.box_from],
        }),
      lookForObject,
    );
  }
}

/** Whether what was looked for is the chosen object rather than another. */
export function isLookedFor(objects, chosen) {
  const search = objects[chosen]?.answer.search;
  if (!search) return true;
  if (!search.box || search.box_from === "photo") return chosen === 0;
  const overlaps = objects.map(({ box }) => overlap(box, search.box));
  return overlaps[chosen] >= Math.max(...overlaps);
}

/** Intersection over union. */
function overlap(a, b) {
  const width = Math.min(a[2], b[2]) - Math.max(a[0], b[0]);
  const height = Math.min(a[3], b[3]) - Math.max(a[1], b[1]);
  const common = Math.max(0, width) * Math.max(0, height);
  const area = (box) => (box[2] - box[0]) * (box[3] - box[1]);
  return common / (area(a) + area(b) - common);
}

// The similar products themselves: a grid, more of them, or why there are none.
import { element, foreign, link, opens, picture } from "./elements.js";
import { money, words } from "./words.js";

const TAGS = 3;

/**
 * Shows the results of a view of similar.js; `onMore()` asks for the next
 * page, `onClear()` takes the filters away, `onClick(product, position)` is
 * told of opened products.
 */
export function showResults(list, view, { onMore, onClear, onClick }) {
  const { results, search } = view;
  if (!results.length) {
    list.replaceChildren(nothing(view, onClear));
    return;
  }
  const items = results.map((result, index) =>
    item(result, () => onClick(result.product, index + 1)),
  );
  list.replaceChildren(
    element("p", {
      className: "hint",
      textContent: words.count(results.length, search.total),
    }),
    element("ol", { className: "grid", ariaLabel: words.results }, items),
    ...more(results.length < search.total && search.results.length, onMore),
  );
}

function more(isMore, onMore) {
  if (!isMore) return [];
  const button = element("button", {
    type: "button",
    className: "more-products",
    textContent: words.more,
  });
  button.addEventListener("click", onMore);
  return [button];
}

function nothing({ wishes, first }, onClear) {
  const isFiltered = ["category_filter", "min_price", "max_price", "tags"].some(
    (name) => wishes[name] !== "",
  );
  const sentence = element("p", {
    textContent:
      isFiltered && first.total ? words.nothingFits : words.nothingSimilar,
  });
  const clear = element("button", { type: "button", textContent: words.clear });
  clear.addEventListener("click", onClear);
  return element(
    "div",
    { className: "nothing" },
    sentence,
    isFiltered && clear,
  );
}

function item({ product, picture: address, similarity }, onClick) {
  const { title, sku_id: skuId, price, tags, attributes } = product;
  const target = opens(product);
  const shown = [
    picture(address ?? product.pictures[0], { loading: "lazy" }),
    foreign("span", title || skuId, { className: "name" }),
  ];
  return element(
    "li",
    { className: "item", tabIndex: -1 },
    target ? link(target.address, target.label, onClick, ...shown) : shown,
    price != null &&
      element("p", {
        className: "price",
        textContent: money(price, attributes.currency),
      }),
    tags.length > 0 &&
      element(
        "ul",
        { className: "tags", ariaLabel: words.tags },
        tags.slice(0, TAGS).map((each) => foreign("li", each)),
      ),
    element("p", {
      className: "hint",
      textContent: words.similarity(similarity.toFixed(2)),
    }),
  );
}

// The panel of a recognised product: what it is, and what else.
import {
  bar,
  bars,
  element,
  foreign,
  link,
  opens,
  picture,
  safeAddress,
} from "./elements.js";
import { reasons } from "./reasons.js";
import { money, percent, words } from "./words.js";

/**
 * Shows `object`, which knows its `answer`. `shown` is what the user looks at instead, an
 * alternative; `onShow(alternative | null)` chooses it, `onClick(sku)` is told
 * of opened products.
 */
export function showPanel(panel, { object, shown, onShow, onClick }) {
  const subject = shown ?? object;
  const isGuess = !shown && !object.recognised;
  const isOpen = panel.querySelector(".why")?.open ?? false;
  panel.replaceChildren(
    ...[
      heading(object, shown, onShow),
      isGuess ? null : card(subject, onClick),
      note(subject, object),
      alternatives(object, shown, onShow, isGuess),
      reasons(object, isOpen, onShow),
    ].filter(Boolean),
  );
}

function heading(object, shown, onShow) {
  const title = element("h2", { id: "finding", tabIndex: -1 });
  if (shown) {
    title.textContent = words.alternative;
    const back = element("button", {
      type: "button",
      className: "quiet back",
      textContent: words.back,
    });
    back.addEventListener("click", () => onShow(null));
    return element(
      "div",
      { className: "finding" },
      title,
      shown.score == null ? null : score(shown.score),
      back,
    );
  }
  if (object.recognised) {
    title.textContent = words.recognised;
    return element(
      "div",
      { className: "finding found" },
      title,
      score(object.score),
    );
  }
  title.textContent = words.notRecognised;
  return element(
    "div",
    { className: "finding unsure" },
    title,
    element("p", {
      textContent: words.notRecognisedWhy(percent(object.score)),
    }),
  );
}

function score(value) {
  return element("span", {
    className: "score",
    textContent: words.sure(percent(value)),
  });
}

function card({ sku_id: skuId, product }, onClick) {
  if (!product) return foreign("p", skuId, { className: "title" });
  const { title, pictures, tags, price, attributes } = product;
  const { currency, url, ...others } = attributes;
  const named = title || skuId;
  const clicked = () => onClick(skuId);
  const target = opens(product);
  const main = picture(pictures[0]);
  return element(
    "article",
    { className: "card" },
    element(
      "div",
      { className: "pictures" },
      target ? link(target.address, target.label, clicked, main) : main,
      pictures.length > 1 &&
        element(
          "div",
          { className: "more" },
          pictures
            .slice(1, 6)
            .map(
              (each, index) =>
                safeAddress(each) &&
                link(
                  safeAddress(each),
                  words.morePicture(index + 2),
                  clicked,
                  picture(each),
                ),
            ),
        ),
    ),
    element(
      "div",
      { className: "facts" },
      foreign("h3", named, { className: "title" }),
      price != null &&
        element("p", {
          className: "price",
          textContent: money(price, currency),
        }),
      tags.length > 0 &&
        element(
          "ul",
          { className: "tags", ariaLabel: words.tags },
          tags.map((each) => foreign("li", each)),
        ),
      details(
        product,
        price == null && currency != null ? { currency, ...others } : others,
      ),
    ),
  );
}

function details(product, attributes) {
  const rows = [
    [words.category, product.category],
    [words.sku, product.sku_id],
    [words.productId, product.product_id],
    ...Object.entries(attributes),
  ].filter(([, value]) => value != null && value !== "");
  return element(
    "dl",
    { className: "attributes", ariaLabel: words.attributes },
    rows.map(([name, value]) =>
      element("div", {}, foreign("dt", name), foreign("dd", inWords(value))),
    ),
  );
}

function inWords(value) {
  if (typeof value === "boolean") return value ? words.yes : words.no;
  if (Array.isArray(value)) return value.map(inWords).join(", ");
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}

function note(subject, object) {
  const text = subject.product
    ? subject === object && object.note
    : words.noProduct;
  return text && element("p", { className: "note", textContent: text });
}

function alternatives(object, shown, onShow, isGuess) {
  const rows = isGuess ? [object, ...object.alternatives] : object.alternatives;
  if (!rows.length) return null;
  return element(
    "section",
    { className: "alternatives" },
    element("h3", {
      textContent: isGuess ? words.closest : words.alternatives,
    }),
    element(
      "ol",
      {},
      rows.map((each) => {
        const { product, sku_id: skuId } = each;
        const button = element(
          "button",
          {
            type: "button",
            ariaPressed: String(shown?.sku_id === skuId),
          },
          picture(product?.pictures[0]),
          foreign("span", product?.title || skuId, { className: "name" }),
          bar(each.score),
        );
        button.addEventListener("click", () => onShow(each));
        return element("li", {}, button);
      }),
    ),
  );
}

/** Shows that an answer is on its way. */
export function showWaiting(panel) {
  panel.replaceChildren(
    element("h2", { id: "finding", textContent: words.looking }),
    ...["wide", "text", "text"].map((each) =>
      element("div", { className: `bone ${each}`, ariaHidden: "true" }),
    ),
  );
}

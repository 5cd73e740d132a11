// Small pieces of the panel. Texts are set as text only, never as HTML.
import { languageOf, percent, words } from "./words.js";

/** An element; `null` and `false` among its children are left out. */
export function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(
    ...children.flat().filter((each) => each != null && each !== false),
  );
  return made;
}

/** What the catalogue wrote, marked with its language. */
export function foreign(name, text, properties = {}) {
  return element(name, {
    ...properties,
    textContent: text,
    dir: "auto",
    lang: languageOf(text),
  });
}

/** An address that is safe to load and to open; null for any other. */
export function safeAddress(text) {
  if (typeof text !== "string" || !text.trim()) return null;
  try {
    const address = new URL(text, document.baseURI);
    return ["http:", "https:"].includes(address.protocol) ? address.href : null;
  } catch {
    return null;
  }
}

/** Where a product opens, and what its link is called; null: nowhere. */
export function opens({ title, sku_id: skuId, pictures, attributes }) {
  const named = title || skuId;
  const page = safeAddress(attributes.url);
  const address = page ?? safeAddress(pictures[0]);
  const label = page ? words.openProduct(named) : words.openPicture(named);
  return address && { address, label };
}

/** A link to another tab, which says that it is one. */
export function link(address, label, onClick, ...children) {
  const made = element(
    "a",
    {
      href: address,
      target: "_blank",
      rel: "noopener noreferrer",
      ariaLabel: `${label} (${words.newTab})`,
    },
    ...children,
  );
  made.addEventListener("click", onClick);
  return made;
}

/** A picture, or a word in its place if there is none or it does not load. */
export function picture(text, { alt = "", loading = "eager" } = {}) {
  const frame = element("span", { className: "picture-frame" });
  const missing = () =>
    frame.replaceChildren(
      element("span", {
        className: "no-picture",
        textContent: words.noPicture,
      }),
    );
  const source = safeAddress(text);
  if (!source) {
    missing();
    return frame;
  }
  const image = element("img", { alt, loading, decoding: "async" });
  image.addEventListener("error", missing);
  image.src = source;
  frame.append(image);
  return frame;
}

/** A share as a bar and as text. */
export function bar(share) {
  const filled = element("i");
  filled.style.width = `${100 * Math.min(1, Math.max(0, share))}%`;
  const line = element(
    "span",
    { className: "bar", ariaHidden: "true" },
    filled,
  );
  const number = element("span", {
    className: "number",
    textContent: percent(share),
  });
  return [line, number];
}

/** Names with their shares, as a list of bars. */
export function bars(shares) {
  return element(
    "ul",
    { className: "bars" },
    shares.map(([name, share]) =>
      element(
        "li",
        {},
        foreign("span", name, { className: "name" }),
        bar(share),
      ),
    ),
  );
}

// The language of the page, and how numbers and texts are said in it.
import chinese from "./words_zh.js";
import english from "./words_en.js";

const wanted =
  new URLSearchParams(location.search).get("lang") ?? navigator.language;
export let words = wanted.toLowerCase().startsWith("zh") ? chinese : english;

/** Puts the texts of `index.html` into the page's language. */
export function translate() {
  document.documentElement.lang = words.language;
  document.title = words.name;
  for (const each of document.querySelectorAll("[data-words]")) {
    each.textContent = words[each.dataset.words];
  }
}

/** To the other language; the address keeps it. */
export function switchLanguage() {
  words = words === english ? chinese : english;
  const address = new URL(location.href);
  address.searchParams.set("lang", words.language);
  history.replaceState(null, "", address);
  translate();
}

/** `0.934` as `93 %`; 100 % and 0 % only of what is exactly that. */
export function percent(share) {
  if (share < 1 && share >= 0.995) return "> 99 %";
  if (share > 0 && share < 0.005) return "< 1 %";
  return `${Math.round(100 * share)} %`;
}

/** A price as the catalogue gives it, with its currency if it names one. */
export function money(price, currency) {
  if (typeof price !== "number")
    return [price, currency].filter(Boolean).join(" ");
  const format = /^[A-Z]{3}$/.test(currency ?? "")
    ? { style: "currency", currency }
    : {};
  return new Intl.NumberFormat(words.language, format).format(price);
}

/** The language of a catalogue's text, for those who have it read out. */
export function languageOf(text) {
  if (/[\p{Script=Hiragana}\p{Script=Katakana}]/u.test(text)) return "ja";
  if (/\p{Script=Han}/u.test(text)) return "zh";
  return "en";
}

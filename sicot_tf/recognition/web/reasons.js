// Why the answer is what it is, for those who open it.
import { bars, element, foreign, picture } from "./elements.js";
import { percent, words } from "./words.js";

/** The category, and below it the reasons; `onShow(similar)` as in the panel. */
export function reasons(object, isOpen, onShow) {
  const { answer } = object;
  const { category } = answer;
  const byScore = (shares) =>
    Object.entries(shares).sort(([, a], [, b]) => b - a);
  const part = (name, content) =>
    element("section", {}, element("h3", { textContent: name }), content);
  const similar = object.similar_pictures;
  const made = element(
    "details",
    { className: "why", open: isOpen },
    element("summary", { textContent: words.why }),
    similar.length > 0 &&
      part(
        words.similar,
        element(
          "ul",
          { className: "similar" },
          similar.slice(0, 12).map((each) => {
            const button = element(
              "button",
              {
                type: "button",
                ariaLabel: words.similarPicture(each.sku_id),
              },
              picture(each.picture),
            );
            button.addEventListener("click", () => onShow(each));
            return element("li", {}, button);
          }),
        ),
      ),
    object.words.length > 0 &&
      part(
        words.words,
        bars(object.words.map((each) => [each.word, each.probability])),
      ),
    category &&
      Object.keys(category.by_model).length > 0 &&
      part(words.byModel, bars(byScore(category.by_model))),
    category &&
      Object.keys(category.by_search).length > 0 &&
      part(words.bySearch, bars(byScore(category.by_search))),
    element("p", {
      className: "hint",
      textContent: words.facts(
        Math.round(answer.milliseconds.total ?? 0),
        answer.model_version,
        answer.index_generation,
      ),
    }),
    element("p", {
      className: "hint",
      textContent: `${words.request}: ${answer.request_id}`,
    }),
  );
  const line =
    category &&
    element(
      "p",
      { className: "category" },
      `${words.category}: `,
      foreign("b", category.name),
      ` ${percent(category.score)}`,
    );
  return element("div", {}, line, made);
}

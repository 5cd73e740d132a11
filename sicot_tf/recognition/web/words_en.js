// Every text of the page, in English. Functions take what changes.
export default {
  language: "en",
  other: "中文",
  otherLanguage: "zh",
  skip: "Skip to the photo",
  name: "Product recognition",
  question: "What product is this?",
  lead: "A photo is enough. The product is looked up in the catalogue.",
  choose: "Choose a photo",
  another: "Another photo",
  camera: "Camera",
  take: "Take the photo",
  close: "Close",
  drop: "or drop it here, or paste it",
  photo: "Your photo",
  photoAlt: "The photo that is looked up",
  boxHint:
    "Drag the box or its corners. On the keyboard: arrow keys move it, Shift and arrow keys resize it.",
  whole: "Whole photo",
  numbers: "Set the box by numbers",
  numbersLegend: "Box in pixels of the photo",
  left: "Left",
  top: "Top",
  right: "Right",
  bottom: "Bottom",
  box: (number, name) => `Object ${number}: ${name}. Its box`,
  objects: "Objects on the photo",
  unsure: "not recognised",
  looking: "Looking …",
  recognised: "Recognised",
  sure: (percent) => `${percent} sure`,
  notRecognised: "Not in the catalogue – what comes closest",
  notRecognisedWhy: (percent) =>
    `The best guess is ${percent} sure, less than what counts as recognised. ` +
    "A closer photo, or a tighter box, may help.",
  alternative: "Comes into question",
  back: "Back to the answer",
  noProduct: "The catalogue has no product of this SKU.",
  noPicture: "no picture",
  openPicture: (title) => `${title}: open the picture`,
  openProduct: (title) => `${title}: open the product`,
  morePicture: (number) => `Picture ${number}`,
  newTab: "opens in a new tab",
  sku: "SKU",
  productId: "Product",
  category: "Category",
  tags: "Tags",
  attributes: "What the catalogue says",
  yes: "yes",
  no: "no",
  alternatives: "Alternatives",
  closest: "What comes closest",
  why: "Why this answer",
  similar: "Nearest catalogue pictures",
  similarPicture: (sku) => `Show ${sku}, whose picture looks alike`,
  words: "Words the model sees",
  byModel: "Category, by the model",
  bySearch: "Category, by the nearest pictures",
  facts: (milliseconds, version, generation) =>
    `${milliseconds} ms, model ${version}, index ${generation}`,
  request: "Request",
  statusRecognised: (title, percent) =>
    `Recognised: ${title}, ${percent} sure.`,
  statusNotRecognised: (title, percent) =>
    `Not in the catalogue. Closest: ${title}, ${percent} sure.`,
  statusObjects: (number) =>
    number > 1 ? `${number} objects on the photo, the main one is chosen.` : "",
  boxMoved: "Box changed. Looking again …",
  results: "Similar products",
  lookedFor: {
    search: "Looked for: the dashed part of the photo, chosen by the model.",
    localisation: "Looked for: the main object of the photo.",
    user: "Looked for: the box that you set.",
    photo: "Looked for: the whole photo.",
  },
  lookForObject: "Find products like the chosen object",
  filters: (number) => (number ? `Filters (${number})` : "Filters"),
  anyCategory: "All categories",
  named: (name, number) => `${name} (${number})`,
  prices: "Price",
  leastPrice: "Price from",
  mostPrice: "Price to",
  crossedPrices: "The price from is above the price to.",
  order: "Order",
  orders: { quality: "Best first", similarity: "Most similar first" },
  clear: "Clear filters",
  similarity: (value) => `similarity ${value}`,
  count: (shown, total) =>
    shown < total
      ? `${shown} of ${total} products`
      : total === 1
        ? "1 product"
        : `${total} products`,
  more: "More products",
  nothingSimilar: "Nothing in the catalogue looks like it.",
  nothingFits: "No similar product fits these filters.",
  statusResults: (total) =>
    total === 1 ? "1 similar product." : `${total} similar products.`,
  statusMore: (added, shown, total) =>
    `${added} more products, ${shown} of ${total}.`,
  retry: "Try again",
  key: "Key of the service",
  failures: {
    key: "The service answers only with a key. Type it in, then try again.",
    unreachable:
      "The service cannot be reached. Check the connection, then try again.",
    slow: "The service took too long. Try again in a moment.",
    missing: "There is no such service here. Tell whoever runs this page.",
    busy: "The service is busy or being started. Try again in a moment.",
    tooMany: "Too many photos in a short time. Wait a minute, then try again.",
    tooLarge: "The photo is too large for the service. Choose a smaller one.",
    refused: "The service cannot use this photo. Choose another one.",
    stale:
      "The catalogue was renewed meanwhile. Try again: the photo is looked up anew.",
    broken: "The service made a mistake. Try again, or choose another photo.",
    unreadable:
      "This file is no picture that the browser can read. Choose a JPEG, PNG or WebP file.",
    noImage:
      "There was no picture in it. Choose, drop or paste a picture file.",
    camera:
      "The camera cannot be used. Allow it in the browser, or choose a photo.",
  },
};

// Talks to the service. Whatever goes wrong is a Failure that the page can say.

// Also a slow phone has sent its photo by then.
const PATIENCE = 45_000;
const KINDS = {
  401: "key",
  404: "missing",
  408: "slow",
  413: "tooLarge",
  429: "tooMany",
  503: "busy",
  504: "busy",
};

// Some services answer only with one; kept in this page alone.
let key = "";

export function useKey(text) {
  key = text.trim();
}

export class Failure extends Error {
  /** `kind` is a key of `words.failures`; `detail` is the service's sentence. */
  constructor(kind, detail = "") {
    super(kind);
    this.kind = kind;
    this.detail = detail;
  }
}

/** The answer (`answers.Answer`) to a photo; `box` as the user drew it. */
export function recognise(photo, box, signal) {
  const form = new FormData();
  form.append("image", photo, "photo");
  if (box) form.append("box", box.join(","));
  return ask("v1/recognize", { method: "POST", body: form }, signal);
}

/** The products of a SKU; none if the catalogue has none. */
export async function products(skuId) {
  const path = `v1/products/${encodeURIComponent(skuId)}`;
  try {
    return (await ask(path)).products;
  } catch (error) {
    if (error.kind === "missing") return [];
    throw error;
  }
}

/** Another page (`answers.SearchAnswer`) of what a photo was looked up by. */
export function search(wishes, signal) {
  const given = Object.entries(wishes).filter(([, value]) => value !== "");
  return ask(`v1/search?${new URLSearchParams(given)}`, {}, signal);
}

async function ask(path, options = {}, signal = null) {
  const patience = AbortSignal.timeout(PATIENCE);
  let response;
  let body;
  try {
    response = await fetch(new URL(path, document.baseURI), {
      ...options,
      headers: key ? { Authorization: `Bearer ${key}` } : {},
      signal: signal ? AbortSignal.any([signal, patience]) : patience,
    });
    body = await response.json().catch((error) => {
      if (error instanceof SyntaxError) return null;
      throw error;
    });
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new Failure(patience.aborted ? "slow" : "unreachable");
  }
  if (response.ok && body) return body;
  const kind = response.ok || response.status >= 500 ? "broken" : "refused";
  throw new Failure(KINDS[response.status] ?? kind, body?.error ?? "");
}

// Not every service keeps events: after its first 404 none is sent.
let keepsEvents = true;

/** Tells that something was shown or clicked; never in anyone's way. */
export async function report(event, answer = null, object = null) {
  if (!keepsEvents) return;
  const row = { event };
  if (answer) {
    row.request_id = answer.request_id;
    row.model_version = answer.model_version;
    row.index_generation = answer.index_generation;
    row.variant = answer.variant;
  }
  // What is undefined is left out.
  const { sku_id, recognised, product_id, position, shown } = object ?? {};
  Object.assign(row, { sku_id, recognised, product_id, position, shown });
  try {
    const response = await fetch(new URL("v1/events", document.baseURI), {
      method: "POST",
      headers: {
        "Content-Type": "application/json",
        ...(key && { Authorization: `Bearer ${key}` }),
      },
      body: JSON.stringify(row),
      // A click may leave the page.
      keepalive: true,
    });
    if (response.status === 404 || response.status === 405) keepsEvents = false;
  } catch {
    // The next answer tells whether the service is there.
  }
}

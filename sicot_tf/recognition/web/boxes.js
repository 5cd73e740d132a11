// The boxes on the photo: chosen, moved and resized by pointer and keyboard.

// Of the longest side: what an arrow key moves, and the smallest side.
const STEP = 0.02;
const SMALLEST = 0.04;
const ARROWS = {
  ArrowLeft: [-1, 0],
  ArrowRight: [1, 0],
  ArrowUp: [0, -1],
  ArrowDown: [0, 1],
};
// Which sides of [left, top, right, bottom] a corner moves.
const CORNERS = { nw: [0, 1], ne: [2, 1], sw: [0, 3], se: [2, 3] };

export class Boxes {
  /**
   * `onChoose(index)` when another box is chosen; `onChange(box, done)` when
   * the chosen one changes, `done` once a pointer lets go of it.
   */
  constructor(stage, { onChoose, onChange }) {
    this.stage = stage;
    this.onChoose = onChoose;
    this.onChange = onChange;
    this.buttons = [];
  }

  /** Boxes in pixels of a photo of `size`; names are what they are called. */
  show(size, boxes, names, chosen) {
    this.size = size;
    this.boxes = boxes.map((box) => [...box]);
    this.chosen = chosen;
    // In place: whoever moves one with the keyboard keeps the focus.
    while (this.buttons.length > boxes.length) this.buttons.pop().remove();
    while (this.buttons.length < boxes.length) this.add(this.buttons.length);
    this.buttons.forEach((button, index) => {
      button.ariaPressed = String(index === chosen);
      button.ariaLabel = names[index];
      button.tabIndex = index === chosen ? 0 : -1;
      this.place(index);
    });
  }

  add(index) {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "box";
    button.setAttribute("aria-describedby", "box-hint");
    for (const corner of Object.keys(CORNERS)) {
      const handle = document.createElement("span");
      handle.className = `corner ${corner}`;
      handle.dataset.corner = corner;
      button.append(handle);
    }
    button.addEventListener("click", () => {
      if (index !== this.chosen) this.onChoose(index);
    });
    button.addEventListener("pointerdown", (event) => this.drag(event, index));
    button.addEventListener("keydown", (event) => this.press(event, index));
    this.buttons.push(button);
    this.stage.append(button);
  }

  place(index) {
    const [left, top, right, bottom] = this.boxes[index];
    const { width, height } = this.size;
    const { style } = this.buttons[index];
    style.left = `${(100 * left) / width}%`;
    style.top = `${(100 * top) / height}%`;
    style.width = `${(100 * (right - left)) / width}%`;
    style.height = `${(100 * (bottom - top)) / height}%`;
    // A small box lies above a large one that would hide it.
    const share = ((right - left) * (bottom - top)) / (width * height);
    style.zIndex = String(
      index === this.chosen ? 101 : 100 - Math.ceil(99 * share),
    );
  }

  /** Sets the chosen box, kept on the photo and not too small. */
  set(box, done) {
    this.boxes[this.chosen] = box;
    this.place(this.chosen);
    this.onChange(box, done);
  }

  press(event, index) {
    const arrow = ARROWS[event.key];
    if (!arrow || index !== this.chosen) return;
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    const step = Math.max(1, Math.round(STEP * this.longest()));
    const [x, y] = arrow.map((each) => each * step);
    const box = this.boxes[index];
    this.set(
      event.shiftKey ? this.resized(box, [2, 3], x, y) : this.moved(box, x, y),
      true,
    );
  }

  drag(event, index) {
    if (index !== this.chosen || event.button !== 0) return;
    const { clientX, clientY, pointerId, currentTarget: button } = event;
    const corner = CORNERS[event.target.dataset.corner];
    const start = this.boxes[index];
    const scale = this.size.width / this.stage.getBoundingClientRect().width;
    let hasMoved = false;
    const move = (next) => {
      if (next.pointerId !== pointerId) return;
      hasMoved = true;
      const x = Math.round(scale * (next.clientX - clientX));
      const y = Math.round(scale * (next.clientY - clientY));
      this.set(
        corner ? this.resized(start, corner, x, y) : this.moved(start, x, y),
        false,
      );
    };
    const end = (next) => {
      if (next.pointerId !== pointerId) return;
      button.removeEventListener("pointermove", move);
      button.removeEventListener("pointerup", end);
      button.removeEventListener("pointercancel", end);
      if (hasMoved) this.set(this.boxes[index], true);
    };
    button.setPointerCapture(pointerId);
    button.addEventListener("pointermove", move);
    button.addEventListener("pointerup", end);
    button.addEventListener("pointercancel", end);
  }

  longest() {
    return Math.max(this.size.width, this.size.height);
  }

  moved([left, top, right, bottom], x, y) {
    x = clamp(x, -left, this.size.width - right);
    y = clamp(y, -top, this.size.height - bottom);
    return [left + x, top + y, right + x, bottom + y];
  }

  /** `sides`: the one that x moves and the one that y moves. */
  resized(box, [sideways, upright], x, y) {
    const changed = [...box];
    changed[sideways] += x;
    changed[upright] += y;
    return this.kept(changed, [sideways, upright]);
  }

  /** One side lies where it is set; the opposite one gives way. */
  pushed(box, side) {
    const pushed = [...box];
    const [length, least] = this.lengths(side);
    pushed[side] =
      side < 2
        ? clamp(box[side], 0, length - least)
        : clamp(box[side], least, length);
    return this.kept(pushed, [(side + 2) % 4]);
  }

  /** Of the photo, and the least of a box, across `side`. */
  lengths(side) {
    const length = side % 2 ? this.size.height : this.size.width;
    const smallest = Math.max(1, Math.round(SMALLEST * this.longest()));
    return [length, Math.min(length, smallest)];
  }

  /** On the photo, and not too small, by moving the given sides. */
  kept(box, sides) {
    const kept = [...box];
    for (const side of sides) {
      const [length, least] = this.lengths(side);
      const opposite = kept[(side + 2) % 4];
      kept[side] =
        side < 2
          ? clamp(kept[side], 0, Math.max(0, opposite - least))
          : clamp(kept[side], Math.min(length, opposite + least), length);
    }
    return kept;
  }
}

function clamp(value, least, most) {
  return Math.min(most, Math.max(least, value));
}

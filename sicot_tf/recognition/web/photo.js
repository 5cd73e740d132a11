// Photos from files, drops, the clipboard and the camera, made fit to be sent.
import { Failure } from "./service.js";

const LONGEST_SIDE = 1600;
// What the service reads as well, if it is small enough.
const KEPT = ["image/jpeg", "image/png", "image/webp"];
const KEPT_BYTES = 2_000_000;

/** The first picture of a drop or of the clipboard. */
export function pictureOf(transfer) {
  const files = [...(transfer?.files ?? [])];
  return files.find((each) => each.type.startsWith("image/"));
}

/** A picture as it is sent: upright, its longest side at most 1600 pixels. */
export async function fit(file) {
  // Turned as its EXIF orientation says, as the service does.
  const picture = await createImageBitmap(file, {
    imageOrientation: "from-image",
  }).catch(() => {
    throw new Failure("unreadable");
  });
  const scale = Math.min(
    1,
    LONGEST_SIDE / Math.max(picture.width, picture.height),
  );
  if (scale === 1 && KEPT.includes(file.type) && file.size <= KEPT_BYTES) {
    picture.close();
    return file;
  }
  const width = Math.max(1, Math.round(scale * picture.width));
  const height = Math.max(1, Math.round(scale * picture.height));
  const small = draw(picture, width, height);
  picture.close();
  return small;
}

function draw(source, width, height) {
  const canvas = document.createElement("canvas");
  canvas.width = width;
  canvas.height = height;
  const context = canvas.getContext("2d");
  // JPEG has no transparency: without this, black.
  context.fillStyle = "white";
  context.fillRect(0, 0, width, height);
  context.imageSmoothingQuality = "high";
  context.drawImage(source, 0, 0, width, height);
  return new Promise((resolve, reject) => {
    canvas.toBlob(
      (blob) => (blob ? resolve(blob) : reject(new Failure("unreadable"))),
      "image/jpeg",
      0.92,
    );
  });
}

/** Whether the page can show what the camera sees. */
export function hasCamera() {
  return Boolean(navigator.mediaDevices?.getUserMedia);
}

/** Shows the camera in `dialog` until a photo is taken; null if closed. */
export async function takePhoto(dialog) {
  const stream = await navigator.mediaDevices
    .getUserMedia({ video: { facingMode: "environment", width: 1600 } })
    .catch(() => {
      throw new Failure("camera");
    });
  const video = dialog.querySelector("video");
  video.srcObject = stream;
  dialog.returnValue = "";
  dialog.showModal();
  try {
    await new Promise((resolve) => {
      dialog.addEventListener("close", resolve, { once: true });
    });
    if (dialog.returnValue !== "take" || !video.videoWidth) return null;
    return await draw(video, video.videoWidth, video.videoHeight);
  } finally {
    video.srcObject = null;
    for (const track of stream.getTracks()) track.stop();
  }
}

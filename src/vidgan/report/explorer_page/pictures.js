// Clips as pictures and films: bytes, canvases, GIF.

// Float clip [C, T, H, W] around [-1, 1] to frames of RGBA bytes, as core/clip_ops.py rounds.
function toFrames({ values, shape: [channels, length, height, width] }) {
  const size = height * width;
  return Array.from({ length }, (_, t) => {
    const frame = new ImageData(width, height);
    for (let i = 0; i < size; i++) {
      for (let c = 0; c < 3; c++) {
        const value = values[((channels === 1 ? 0 : c) * length + t) * size + i];
        frame.data[4 * i + c] = Math.round(127.5 * value + 127.5);
      }
      frame.data[4 * i + 3] = 255;
    }
    return frame;
  });
}

function toCanvas(frame) {
  const canvas = document.createElement("canvas");
  canvas.width = frame.width;
  canvas.height = frame.height;
  canvas.getContext("2d").putImageData(frame, 0, 0);
  return canvas;
}

// Frames side by side, enlarged by a whole number.
function toStrip(frames, scale) {
  const strip = document.createElement("canvas");
  const gap = 2;
  strip.width = frames.length * (frames[0].width * scale + gap) - gap;
  strip.height = frames[0].height * scale;
  const pen = strip.getContext("2d");
  pen.imageSmoothingEnabled = false;
  frames.forEach((frame, t) => {
    const x = t * (frame.width * scale + gap);
    pen.drawImage(toCanvas(frame), x, 0, frame.width * scale, frame.height * scale);
  });
  return strip;
}

// At most 256 colours of all frames: those that occur, or the means of boxes of colours that are
// cut in two at the median of their longest side (Heckbert 1982).
function choosePalette(frames) {
  const counts = new Map();
  for (const frame of frames) {
    for (let i = 0; i < frame.data.length; i += 4) {
      const colour = (frame.data[i] << 16) | (frame.data[i + 1] << 8) | frame.data[i + 2];
      counts.set(colour, (counts.get(colour) ?? 0) + 1);
    }
  }
  const channel = (colour, shift) => (colour >> shift) & 255;
  const boxes = [[...counts.keys()]];
  const longest = (box) => {
    const sides = [16, 8, 0].map((shift) => {
      let low = 255;
      let high = 0;
      for (const colour of box) {
        low = Math.min(low, channel(colour, shift));
        high = Math.max(high, channel(colour, shift));
      }
      return { shift, length: high - low };
    });
    return sides.reduce((a, b) => (b.length > a.length ? b : a));
  };
  const sides = [longest(boxes[0])];
  while (boxes.length < 256) {
    let chosen = 0;
    const weight = (i) => sides[i].length * Math.sqrt(boxes[i].length);
    for (let i = 1; i < boxes.length; i++) if (weight(i) > weight(chosen)) chosen = i;
    if (sides[chosen].length === 0) break;
    const { shift } = sides[chosen];
    const box = boxes[chosen].sort((a, b) => channel(a, shift) - channel(b, shift));
    boxes[chosen] = box.slice(0, box.length >> 1);
    boxes.push(box.slice(box.length >> 1));
    sides[chosen] = longest(boxes[chosen]);
    sides.push(longest(boxes.at(-1)));
  }
  const index = new Map();
  const colours = boxes.map((box, i) => {
    const sums = [0, 0, 0];
    let total = 0;
    for (const colour of box) {
      index.set(colour, i);
      const count = counts.get(colour);
      total += count;
      [16, 8, 0].forEach((shift, c) => (sums[c] += channel(colour, shift) * count));
    }
    return sums.map((sum) => Math.round(sum / total));
  });
  return { colours, index };
}

// The variable-length codes of GIF89a (LZW), packed into bytes.
function compress(pixels) {
  const bytes = [];
  let pending = 0;
  let numBits = 0;
  let codeBits = 9;
  const emit = (code) => {
    pending |= code << numBits;
    numBits += codeBits;
    while (numBits >= 8) {
      bytes.push(pending & 255);
      pending >>>= 8;
      numBits -= 8;
    }
  };
  const CLEAR = 256;
  const END = 257;
  let table = new Map();
  let next = END + 1;
  emit(CLEAR);
  let prefix = pixels[0];
  for (let i = 1; i < pixels.length; i++) {
    const key = (prefix << 8) | pixels[i];
    const known = table.get(key);
    if (known !== undefined) {
      prefix = known;
      continue;
    }
    emit(prefix);
    prefix = pixels[i];
    if (next === 4096) {
      emit(CLEAR);
      table = new Map();
      next = END + 1;
      codeBits = 9;
      continue;
    }
    table.set(key, next);
    if (next === 1 << codeBits) codeBits++;
    next++;
  }
  emit(prefix);
  emit(END);
  if (numBits) bytes.push(pending & 255);
  return bytes;
}

// A looping GIF of frames, enlarged by a whole number.
function toGif(frames, scale, fps) {
  const { colours, index } = choosePalette(frames);
  const width = frames[0].width * scale;
  const height = frames[0].height * scale;
  const word = (value) => [value & 255, value >> 8];
  const text = (letters) => [...letters].map((letter) => letter.charCodeAt(0));
  const chunks = [[...text("GIF89a"), ...word(width), ...word(height), 0xf7, 0, 0]];
  chunks.push(Array.from({ length: 256 }, (_, i) => colours[i] ?? [0, 0, 0]).flat());
  chunks.push([0x21, 0xff, 11, ...text("NETSCAPE2.0"), 3, 1, 0, 0, 0]);
  for (const frame of frames) {
    chunks.push([0x21, 0xf9, 4, 4, ...word(Math.max(2, Math.round(100 / fps))), 0, 0]);
    chunks.push([0x2c, 0, 0, 0, 0, ...word(width), ...word(height), 0, 8]);
    const pixels = new Uint8Array(width * height);
    for (let y = 0; y < height; y++) {
      for (let x = 0; x < width; x++) {
        const at = 4 * (((y / scale) | 0) * frame.width + ((x / scale) | 0));
        const [red, green, blue] = frame.data.subarray(at, at + 3);
        pixels[y * width + x] = index.get((red << 16) | (green << 8) | blue);
      }
    }
    const bytes = compress(pixels);
    for (let i = 0; i < bytes.length; i += 255) {
      const part = bytes.slice(i, i + 255);
      chunks.push([part.length], part);
    }
    chunks.push([0]);
  }
  chunks.push([0x3b]);
  return new Blob(chunks.map((chunk) => Uint8Array.from(chunk)), { type: "image/gif" });
}

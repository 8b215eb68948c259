// Given frames: a picture or a film that is dropped, or a square that moves until then

function setContext(pixelsOf) {
  const [channels, length, height, width] = about.context.shape;
  const values = new Float32Array(channels * length * height * width);
  for (let t = 0; t < length; t++) {
    const pixels = pixelsOf(t);
    for (let i = 0; i < height * width; i++) {
      const colour = [0, 1, 2].map((c) => pixels[4 * i + c] / 127.5 - 1);
      const grey = 0.21 * colour[0] + 0.72 * colour[1] + 0.07 * colour[2];
      for (let c = 0; c < channels; c++) {
        values[(c * length + t) * height * width + i] = channels === 1 ? grey : colour[c];
      }
    }
  }
  hideBox(values);
  state.context = values;
}

function hideBox(values) {
  if (about.context.hidden === null) return;
  const [channels, length, height, width] = about.context.shape;
  for (let plane = 0; plane < channels * length; plane++) {
    for (let y = height >> 2; y < height - (height >> 2); y++) {
      const row = plane * height * width + y * width;
      values.fill(about.context.hidden, row + (width >> 2), row + width - (width >> 2));
    }
  }
}

function sized(draw) {
  const [, , height, width] = about.context.shape;
  const canvas = document.createElement("canvas");
  canvas.width = width;
  canvas.height = height;
  const brush = canvas.getContext("2d", { willReadFrequently: true });
  draw(brush, width, height);
  return brush.getImageData(0, 0, width, height).data;
}

function cropped(source, sourceWidth, sourceHeight) {
  return sized((brush, width, height) => {
    const scale = Math.min(sourceWidth / width, sourceHeight / height);
    const cutWidth = width * scale;
    const cutHeight = height * scale;
    const x = (sourceWidth - cutWidth) / 2;
    const y = (sourceHeight - cutHeight) / 2;
    brush.imageSmoothingQuality = "high";
    brush.drawImage(source, x, y, cutWidth, cutHeight, 0, 0, width, height);
  });
}

function standIn() {
  setContext((t) =>
    sized((brush, width, height) => {
      brush.fillStyle = "#24476b";
      brush.fillRect(0, 0, width, height);
      brush.fillStyle = "#f2b84b";
      const side = width / 3;
      brush.fillRect(((t * width) / 16) % (width - side), height / 3, side, side);
    }),
  );
}

async function takeFile(file) {
  const address = URL.createObjectURL(file);
  const told = find("drop-note");
  try {
    if (file.type.startsWith("image/")) {
      const picture = await createImageBitmap(file);
      const pixels = cropped(picture, picture.width, picture.height);
      setContext(() => pixels);
    } else {
      const film = document.createElement("video");
      film.muted = true;
      film.src = address;
      await new Promise((resolve, reject) => {
        film.onloadeddata = resolve;
        film.onerror = () => reject(new Error("it is no film that this browser plays"));
      });
      const shots = [];
      for (let t = 0; t < about.context.shape[1]; t++) {
        const time = Math.min((t + 0.5) / about.fps, Math.max(0, film.duration - 0.01));
        const sought = new Promise((resolve) => (film.onseeked = resolve));
        film.currentTime = time;
        await sought;
        shots.push(cropped(film, film.videoWidth, film.videoHeight));
      }
      setContext((t) => shots[t]);
    }
    told.textContent = `Given: ${file.name}`;
    refresh();
    fillGallery();
  } catch (error) {
    told.textContent = `${file.name} cannot be used: ${error.message}`;
  } finally {
    URL.revokeObjectURL(address);
  }
}

standIn();
find("file").addEventListener("change", ({ target }) => target.files[0] && takeFile(target.files[0]));
document.addEventListener("dragover", (event) => event.preventDefault());
document.addEventListener("drop", (event) => {
  event.preventDefault();
  if (event.dataTransfer.files[0]) takeFile(event.dataTransfer.files[0]);
});

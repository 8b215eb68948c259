// What a server adds: other generators beside this one, and clips of one's own.

async function answered(address, options) {
  const reply = await fetch(address, options);
  if (!reply.ok) throw new Error(await reply.text());
  return reply;
}

// A clip that the server makes, as the worker gives its own.
async function generateThere(model, { latent, label, context }) {
  const before = performance.now();
  const given = { latent: latent && [...latent], labels: label, context: context && [...context.values] };
  const body = JSON.stringify(given);
  const headers = { "Content-Type": "application/json" };
  const reply = await answered(`api/clip?model=${model}`, { method: "POST", headers, body });
  const shape = reply.headers.get("X-Shape").split(",").map(Number);
  const values = new Float32Array(await reply.arrayBuffer());
  return { values, shape, milliseconds: performance.now() - before };
}

// --------------------------------------------------------------------------------------------
// Another generator beside this one, by the same seed

const rival = { model: null, facts: null, frames: [] };

find("shown")?.addEventListener("change", ({ target }) => {
  location.search = `?model=${target.value}`;
});

find("rival")?.addEventListener("change", async ({ target }) => {
  rival.model = target.value === "" ? null : Number(target.value);
  rival.frames = [];
  for (const id of ["screen-b", "own-note", "rival-note"]) find(id).hidden = rival.model === null;
  document.body.toggleAttribute("data-beside", rival.model !== null);
  if (rival.model === null) return;
  find("rival-note").textContent = "Loading";
  try {
    rival.facts = await (await answered(`api/model?model=${rival.model}`)).json();
    refresh();
  } catch (error) {
    find("rival-note").textContent = `No clip: ${error.message}`;
  }
});

function rivalRequest() {
  const { facts } = rival;
  const own = request(state.seed, state.weight);
  const isAlike = facts.latentLength === about.latentLength;
  const latent = isAlike ? own.latent : drawLatent(facts.parts, facts.latentLength, state.seed);
  const count = facts.classes.length;
  const label = count ? Math.min(own.label ?? drawLabel(state.seed, count), count - 1) : undefined;
  return { ...own, latent: facts.latentLength ? latent : undefined, label };
}

async function showRival() {
  const { model } = rival;
  if (model === null || !rival.facts) return;
  const told = find("rival-note");
  try {
    const result = await generateThere(model, rivalRequest());
    if (model !== rival.model) return;
    rival.frames = framesOf(result).frames;
    told.textContent = find("rival").selectedOptions[0].textContent;
    drawRival();
  } catch (error) {
    told.textContent = `No clip: ${error.message}`;
  }
}

function drawRival() {
  if (!rival.frames.length) return;
  const canvas = find("screen-b");
  const frame = rival.frames[view.shown % rival.frames.length];
  canvas.width = screen.width;
  canvas.height = screen.height;
  const brush = canvas.getContext("2d");
  brush.imageSmoothingEnabled = view.smooth;
  brush.drawImage(toCanvas(frame), 0, 0, canvas.width, canvas.height);
}

// --------------------------------------------------------------------------------------------
// Projection of a video

const projected = { result: null, target: [], clip: [], stop: null, stage: null, clock: 0 };

function framesOfBytes(text, shape) {
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const values = Float32Array.from(bytes, (value) => value / 127.5 - 1);
  return toFrames({ values, shape });
}

async function project() {
  const file = find("own-clip").files[0];
  const told = find("project-note");
  if (!file) {
    told.textContent = "Choose a video first.";
    return;
  }
  projected.stop = new AbortController();
  setProjecting(true);
  find("projected").hidden = true;
  told.textContent = "Sending the video";
  const label = find("own-class")?.value ?? "";
  try {
    const reply = await answered(`api/projection?model=${about.current}&label=${label}`, {
      method: "POST",
      headers: { "Content-Type": "application/octet-stream" },
      body: file,
      signal: projected.stop.signal,
    });
    for await (const line of linesOf(reply.body)) {
      const words = JSON.parse(line);
      if (words.error) throw new Error(words.error);
      if (words.result) showProjection(words);
      else showProgress(words);
    }
  } catch (error) {
    const isCancelled = error.name === "AbortError";
    told.textContent = isCancelled ? "Cancelled." : `Not projected: ${error.message}`;
  } finally {
    setProjecting(false);
  }
}

function setProjecting(runs) {
  find("project").hidden = runs;
  find("cancel").hidden = !runs;
  find("project-progress").hidden = !runs;
  find("project-progress").removeAttribute("value");
  clearInterval(projected.clock);
  projected.stage = runs ? { started: performance.now(), percent: 0 } : null;
  // A step may take seconds; the clock shows meanwhile that the search goes on.
  if (runs) projected.clock = setInterval(tellTime, 1000);
  tellTime();
}

function showProgress({ done, total, what, limit }) {
  find("project-note").textContent = `${what[0].toUpperCase()}${what.slice(1)}`;
  find("project-progress").max = total;
  find("project-progress").value = done;
  // The limit is of the search alone, which begins after the wait and the reading.
  const started = limit && !projected.stage.limit ? performance.now() : projected.stage.started;
  projected.stage = { started, limit, percent: Math.floor((100 * done) / total) };
  tellTime();
}

function tellTime() {
  const { stage } = projected;
  if (!stage) {
    find("project-clock").textContent = "";
    return;
  }
  const seconds = Math.round((performance.now() - stage.started) / 1000);
  const limit = stage.limit ? ` of at most ${stage.limit}` : "";
  find("project-clock").textContent = `${stage.percent} %, ${seconds} s${limit}`;
}

async function* linesOf(stream) {
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const lines = (rest + value).split("\n");
    rest = lines.pop();
    yield* lines;
  }
}

function showProjection({ result, shape, target, clip }) {
  projected.result = result;
  projected.target = framesOfBytes(target, shape);
  projected.clip = framesOfBytes(clip, shape);
  find("project-note").textContent = "";
  find("verdict").textContent = result.verdict;
  find("verdict").dataset.verdict = result.verdict;
  find("reason").textContent = `${result.reason}.`;
  const rows = { found: "psnr", best: "psnr_best_random", mean: "psnr_mean_clip", random: "psnr_random" };
  for (const [id, key] of Object.entries(rows)) {
    find(`psnr-${id}`).textContent = result[key].toFixed(1);
  }
  find("num-starts").textContent = result.num_starts;
  find("found-class").textContent = result.class === null ? "" : `, class ${result.class}`;
  find("projected").hidden = false;
  drawProjection();
}

function drawProjection() {
  for (const [id, frames] of [["screen-target", projected.target], ["screen-found", projected.clip]]) {
    const frame = frames[view.shown % frames.length];
    if (!frame) continue;
    const canvas = find(id);
    canvas.width = frame.width;
    canvas.height = frame.height;
    canvas.getContext("2d").putImageData(frame, 0, 0);
  }
}

find("project")?.addEventListener("click", project);
find("cancel")?.addEventListener("click", () => projected.stop?.abort());
find("explore-found")?.addEventListener("click", () => {
  const { latent, label } = projected.result;
  state.found = { latent: Float32Array.from(latent), label };
  refresh();
  window.scrollTo({ top: 0, behavior: "smooth" });
});
find("save-latent")?.addEventListener("click", () => {
  save(new Blob([JSON.stringify(projected.result, null, 1)], { type: "application/json" }), "json");
});

hooks.clip.push(showRival);
hooks.frame.push(drawRival, drawProjection);

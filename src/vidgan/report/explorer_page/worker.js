// Runs the generator away from the page, so that nothing stutters while it computes.

let ort = null;
let session = null;

async function start({ library, binary, model, threads }) {
  // The worker's own address: to browsers, pages from files and their workers are strangers.
  ort = await import(URL.createObjectURL(new Blob([library], { type: "text/javascript" })));
  ort.env.wasm.wasmBinary = binary;
  ort.env.wasm.numThreads = threads;
  ort.env.logLevel = "error";
  session = await ort.InferenceSession.create(model, { executionProviders: ["wasm"] });
}

async function generate({ latent, label, context }) {
  const feeds = {};
  if (latent) feeds.latent = new ort.Tensor("float32", latent, [1, latent.length]);
  if (label !== undefined) {
    feeds.labels = new ort.Tensor("int64", BigInt64Array.of(BigInt(label)), [1]);
  }
  if (context) feeds.context = new ort.Tensor("float32", context.values, context.shape);
  const before = performance.now();
  const { clip } = await session.run(feeds);
  return { values: clip.data, shape: clip.dims.slice(1), milliseconds: performance.now() - before };
}

let last = Promise.resolve();
onmessage = ({ data: { id, task, given } }) => {
  // One after the other: the session does not take two calls at a time.
  last = last.then(async () => {
    try {
      const result = await (task === "start" ? start(given) : generate(given));
      postMessage({ id, result }, result ? [result.values.buffer] : []);
    } catch (error) {
      postMessage({ id, error: String(error?.message ?? error) });
    }
  });
};

// Samples through time: one slider over the videos of all steps, in place of the small ones.
(() => {
  const figures = [...document.querySelectorAll("figure[data-step]")];
  const scrubber = document.getElementById("scrubber");
  if (matchMedia("(prefers-reduced-motion: reduce)").matches) {
    document.querySelectorAll("video").forEach((video) => video.pause());
  }
  if (!scrubber || figures.length < 2) return;
  const steps = figures.map((figure) => [Number(figure.dataset.step), figure.querySelector("video").src]);
  steps.sort(([a], [b]) => a - b);
  const [main] = figures;
  const video = main.querySelector("video");
  const title = main.querySelector("h3");
  const time = document.getElementById("time");
  const replay = document.getElementById("replay");
  let timer = null;

  function show(index) {
    const [step, source] = steps[index];
    time.value = index;
    time.setAttribute("aria-valuetext", `step ${step}`);
    document.getElementById("time-step").textContent = `step ${step.toLocaleString("en")}`;
    title.textContent = `Generated clips, step ${step}`;
    if (video.src !== source) video.src = source;
  }

  function play(runs) {
    clearInterval(timer);
    timer = runs ? setInterval(() => show((Number(time.value) + 1) % steps.length), 1200) : null;
    replay.textContent = runs ? "Stop" : "Play the training";
  }

  time.max = steps.length - 1;
  time.addEventListener("input", () => (play(false), show(Number(time.value))));
  replay.addEventListener("click", () => play(timer === null));
  document.querySelector(".history").classList.add("replaced");
  scrubber.hidden = false;
  show(steps.length - 1);
})();

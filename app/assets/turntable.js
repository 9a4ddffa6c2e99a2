// A film of one turn of a surface: the surface on the page turns, picture by picture, as fast as the browser draws it;
// then its pictures are recorded at an even pace by the browser's own encoder. Nothing leaves the page.
(() => {
  const FRAMES = 60;
  const PER_SECOND = 20;
  const SHARPNESS = 1.5;
  const SETTLED_MS = 60; // a camera follows its orders a little later
  const KINDS = ["video/webm;codecs=vp9", "video/webm;codecs=vp8", "video/webm", "video/mp4"];

  const turned = (camera, share) => {
    const { eye, center } = camera;
    const [x, y] = [eye.x - center.x, eye.y - center.y];
    const angle = Math.atan2(y, x) + 2 * Math.PI * share;
    const reach = Math.hypot(x, y);
    return { ...camera, eye: { x: center.x + reach * Math.cos(angle), y: center.y + reach * Math.sin(angle), z: eye.z } };
  };

  const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

  async function imageOf(svg) {
    const copy = svg.cloneNode(true);
    copy.setAttribute("xmlns", "http://www.w3.org/2000/svg");
    const image = new Image();
    image.src = `data:image/svg+xml,${encodeURIComponent(new XMLSerializer().serializeToString(copy))}`;
    await image.decode();
    return image;
  }

  // What is on the page: WebGL forgets a picture once the browser has shown it, so it is drawn once more just before.
  async function picture(plot, size) {
    const canvas = Object.assign(document.createElement("canvas"), size);
    const brush = canvas.getContext("2d");
    const box = plot.getBoundingClientRect();
    const [under, ...over] = await Promise.all([...plot.querySelectorAll("svg.main-svg")].map(imageOf));
    const whole = [0, 0, size.width, size.height];
    brush.fillStyle = plot._fullLayout.paper_bgcolor;
    brush.fillRect(...whole);
    brush.drawImage(under, ...whole);
    const { glplot } = plot._fullLayout.scene._scene;
    const place = glplot.canvas.getBoundingClientRect();
    const scale = size.width / box.width;
    glplot.redraw();
    brush.drawImage(
      glplot.canvas, (place.x - box.x) * scale, (place.y - box.y) * scale, place.width * scale, place.height * scale,
    );
    for (const image of over) brush.drawImage(image, ...whole);
    return createImageBitmap(canvas);
  }

  async function pictures(plot, size, tell, stopped) {
    const camera = structuredClone(plot._fullLayout.scene.camera);
    const found = [];
    try {
      for (let place = 0; place < FRAMES; place += 1) {
        if (stopped()) return null;
        await Plotly.relayout(plot, { "scene.camera": turned(camera, place / FRAMES) });
        await pause(SETTLED_MS);
        found.push(await picture(plot, size));
        tell(place + 1);
      }
    } finally {
      await Plotly.relayout(plot, { "scene.camera": camera });
    }
    return found;
  }

  async function record(images, size, stopped) {
    const canvas = Object.assign(document.createElement("canvas"), size);
    const brush = canvas.getContext("2d");
    const show = (image) => brush.drawImage(image, 0, 0, size.width, size.height);
    show(images[0]);
    const type = KINDS.find((kind) => MediaRecorder.isTypeSupported(kind));
    const recorder = new MediaRecorder(canvas.captureStream(PER_SECOND), { mimeType: type, videoBitsPerSecond: 8e6 });
    const parts = [];
    recorder.ondataavailable = ({ data }) => parts.push(data);
    const ended = new Promise((resolve) => (recorder.onstop = resolve));
    const started = new Promise((resolve) => (recorder.onstart = resolve));
    recorder.start();
    await Promise.race([started, pause(1000)]);
    // By the clock, not by the count: a machine that is late leaves pictures out, and the turn takes as long as ever.
    const begun = performance.now();
    const due = () => Math.floor(((performance.now() - begun) / 1000) * PER_SECOND);
    for (let place = 0; place < images.length && !stopped(); place = due()) {
      show(images[place]);
      await pause(1000 / PER_SECOND);
    }
    recorder.stop();
    await ended;
    return stopped() ? null : new Blob(parts, { type });
  }

  // A progress bar and a way out, in the line under the chart.
  function announce(card) {
    const line = document.createElement("span");
    line.className = "turntable-progress";
    const words = document.createElement("span");
    words.setAttribute("role", "status");
    const count = document.createElement("span");
    const bar = Object.assign(document.createElement("progress"), { max: FRAMES, value: 0 });
    bar.setAttribute("aria-label", "Pictures of the turn");
    const cancel = Object.assign(document.createElement("button"), { type: "button", className: "button", textContent: "Cancel" });
    const state = { stopped: false };
    cancel.addEventListener("click", () => (state.stopped = true));
    line.append(words, count, bar, cancel);
    card.querySelector(".chart-foot").append(line);
    card.classList.add("turning");
    return {
      stopped: () => state.stopped || !card.isConnected,
      tell: (text) => (words.textContent = text),
      tellCount: (value) => {
        bar.value = value;
        count.textContent = `${value} of ${FRAMES}`;
      },
      end: () => {
        line.remove();
        card.classList.remove("turning");
      },
    };
  }

  async function turn(card) {
    const plot = card.querySelector(".js-plotly-plot");
    if (!plot?._fullLayout?.scene || card.classList.contains("turning")) return;
    const box = plot.getBoundingClientRect();
    const even = (pixels) => 2 * Math.round((SHARPNESS * pixels) / 2); // video encoders take even sizes only
    const size = { width: even(box.width), height: even(box.height) };
    const shown = announce(card);
    try {
      shown.tell("Drawing the turn");
      const images = await pictures(plot, size, shown.tellCount, shown.stopped);
      if (!images) return;
      shown.tell("Recording");
      const film = await record(images, size, shown.stopped);
      if (!film) return;
      const link = document.createElement("a");
      link.href = URL.createObjectURL(film);
      link.download = `${card.dataset.filename || "surface"}.${film.type.includes("mp4") ? "mp4" : "webm"}`;
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 10000);
    } finally {
      shown.end();
    }
  }

  document.addEventListener("click", (event) => {
    const item = event.target.closest?.("[data-turntable]");
    if (item) turn(document.getElementById(JSON.stringify({ chart: item.dataset.turntable, part: "chart-card" })));
  });
})();

// Cameras of surfaces. Several in one figure turn and zoom as one: what the pointer does to a scene's camera is done to
// the others while it moves, without asking the server. With a chart in focus, arrow keys turn it, + and − zoom.
(() => {
  const scenesOf = (plot) => Object.keys(plot.layout).filter((key) => /^scene\d*$/.test(key));
  const REST_MS = 150;
  let moving = false;

  // What Plotly does in every frame of every scene beside drawing it: the boxes of models' names, milliseconds each; and
  // a second drawing, of what lies below the pointer, read back from the graphics card, which must end everything for it.
  // With four panels that is several frames. While they move together neither is done; both are where the movement rests.
  function lighten(scene) {
    const { glplot, drawAnnotations } = scene;
    const picked = glplot.objects.filter((object) => object.drawPick).map((object) => [object, object.drawPick]);
    scene.drawAnnotations = () => {};
    for (const [object] of picked) object.drawPick = () => {};
    glplot.gl.readPixels = () => {};
    return () => {
      scene.drawAnnotations = drawAnnotations;
      for (const [object, drawPick] of picked) object.drawPick = drawPick;
      delete glplot.gl?.readPixels; // the context's own is below it
      if (!scene.glplot) return; // it was taken away meanwhile
      scene.drawAnnotations(scene);
      glplot.update(); // draws what lies below the pointer, too
    };
  }

  const resting = new WeakMap(); // of each plot that moves: the clock, and how each scene is itself again
  function lightenAll(plot) {
    const drawn = scenesOf(plot).map((key) => plot._fullLayout[key]?._scene).filter((scene) => scene?.drawAnnotations);
    if (drawn.length < 2) return;
    const before = resting.get(plot);
    clearTimeout(before?.clock);
    const ways = before?.ways ?? new Map();
    for (const scene of drawn) if (!ways.has(scene) && scene.glplot?.objects) ways.set(scene, lighten(scene));
    plot.classList.add("turning");
    const clock = setTimeout(() => {
      resting.delete(plot);
      for (const again of ways.values()) again();
      plot.classList.remove("turning");
    }, REST_MS);
    resting.set(plot, { clock, ways });
  }

  async function setCameras(plot, scenes, camera) {
    // Our own change comes back as an event before the promise does: it is no other movement to follow.
    moving = true;
    lightenAll(plot);
    try {
      await Plotly.relayout(plot, Object.fromEntries(scenes.map((key) => [`${key}.camera`, structuredClone(camera)])));
    } finally {
      moving = false;
    }
  }

  const cameraIn = (change) => Object.keys(change || {}).find((key) => /^scene\d*\.camera$/.test(key));

  // The scene that was moved is among them: Plotly sets every scene's camera anew, and does not know this one's yet.
  function follow(plot, change) {
    const moved = !moving && cameraIn(change);
    if (moved) setCameras(plot, scenesOf(plot), change[moved]);
  }

  // While the pointer moves only the cameras themselves follow: the layout, which costs a frame, is told where it ends.
  // They are led in each frame by the camera as it is drawn: the event tells of it before it has moved.
  const led = new WeakSet();
  function followAtOnce(plot, change) {
    const moved = !moving && cameraIn(change);
    if (!moved) return;
    lightenAll(plot);
    if (led.has(plot)) return;
    led.add(plot);
    const lead = () => {
      const sceneOf = (key) => plot._fullLayout[key]?._scene;
      const leader = sceneOf(moved.split(".")[0]);
      if (!leader?.glplot) return led.delete(plot);
      const { eye, center, up } = leader.getCamera();
      const [from, to, above] = [eye, center, up].map(({ x, y, z }) => [x, y, z]);
      for (const key of scenesOf(plot)) if (sceneOf(key) !== leader) sceneOf(key)?.camera?.lookAt(from, to, above);
      if (resting.has(plot)) requestAnimationFrame(lead);
      else led.delete(plot);
    };
    lead();
  }

  // Plotly forgets listeners when it draws anew: they are set whenever the pointer comes.
  const followers = new WeakMap();
  document.addEventListener("pointerover", (event) => {
    const card = event.target.closest?.(".chart-card.linked-cameras");
    const plot = card && !card.contains(event.relatedTarget) && card.querySelector(".js-plotly-plot");
    if (!plot?.on) return;
    if (!followers.has(plot)) {
      followers.set(plot, {
        plotly_relayouting: (change) => followAtOnce(plot, change),
        plotly_relayout: (change) => follow(plot, change),
      });
    }
    for (const [name, listener] of Object.entries(followers.get(plot))) {
      plot.removeListener(name, listener);
      plot.on(name, listener);
    }
  });

  // In polar coordinates around the centre: turn and tilt in radians, zoom as a factor.
  const KEYS = {
    ArrowLeft: [-0.2, 0, 1], ArrowRight: [0.2, 0, 1], ArrowUp: [0, 0.1, 1], ArrowDown: [0, -0.1, 1],
    "+": [0, 0, 0.9], "=": [0, 0, 0.9], "-": [0, 0, 1 / 0.9],
  };
  function moved({ eye, center, ...rest }, [turn, tilt, zoom]) {
    const [x, y, z] = ["x", "y", "z"].map((axis) => eye[axis] - center[axis]);
    const reach = Math.hypot(x, y, z);
    const around = Math.atan2(y, x) + turn;
    const up = Math.min(Math.max(Math.asin(z / reach) + tilt, 0.05), 1.5);
    const far = zoom * reach;
    return {
      ...rest,
      center,
      eye: {
        x: center.x + far * Math.cos(up) * Math.cos(around),
        y: center.y + far * Math.cos(up) * Math.sin(around),
        z: center.z + far * Math.sin(up),
      },
    };
  }
  document.addEventListener("keydown", (event) => {
    const change = !event.ctrlKey && !event.metaKey && !event.altKey && KEYS[event.key];
    const plot = change && event.target.matches?.(".chart-body[tabindex]") && event.target.querySelector(".js-plotly-plot");
    const scenes = plot ? scenesOf(plot) : [];
    if (!scenes.length) return;
    event.preventDefault();
    setCameras(plot, scenes, moved(plot._fullLayout[scenes[0]].camera, change));
  });
})();

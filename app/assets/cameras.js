// Cameras of surfaces. Several in one figure turn and zoom as one: what the pointer does to a scene's camera is done to
// the others while it moves, without asking the server. With a chart in focus, arrow keys turn it, + and − zoom.
(() => {
  const scenesOf = (plot) => Object.keys(plot.layout).filter((key) => /^scene\d*$/.test(key));
  const REST_MS = 150;
  let moving = false;

  // Plotly draws the boxes of models' names anew in every frame of every scene, milliseconds each: with four panels that
  // is several frames. While they move together the boxes are out of sight; they come back where the movement rests.
  const resting = new WeakMap(); // of each plot that moves: the clock, and how each scene draws its boxes
  function hideNames(plot) {
    const drawn = scenesOf(plot).map((key) => plot._fullLayout[key]?._scene).filter((scene) => scene?.drawAnnotations);
    if (drawn.length < 2) return;
    const before = resting.get(plot);
    clearTimeout(before?.clock);
    const ways = before?.ways ?? new Map();
    for (const scene of drawn) {
      if (ways.has(scene)) continue;
      ways.set(scene, scene.drawAnnotations);
      scene.drawAnnotations = () => {};
    }
    plot.classList.add("turning");
    const clock = setTimeout(() => {
      resting.delete(plot);
      for (const [scene, draw] of ways) {
        scene.drawAnnotations = draw;
        if (scene.glplot) scene.drawAnnotations(scene); // unless it was taken away meanwhile
      }
      plot.classList.remove("turning");
    }, REST_MS);
    resting.set(plot, { clock, ways });
  }

  async function setCameras(plot, scenes, camera) {
    // Our own change comes back as an event before the promise does: it is no other movement to follow.
    moving = true;
    hideNames(plot);
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
  function followAtOnce(plot, change) {
    const moved = !moving && cameraIn(change);
    if (!moved) return;
    hideNames(plot);
    const [eye, center, up] = ["eye", "center", "up"].map((part) => ["x", "y", "z"].map((axis) => change[moved][part][axis]));
    for (const key of scenesOf(plot)) {
      if (`${key}.camera` !== moved) plot._fullLayout[key]?._scene?.camera?.lookAt(eye, center, up);
    }
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

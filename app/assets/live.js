/* The page's end of the live line (app/live.py): what the page watches, and what happens when the line is silent.
 *
 * The server beats over the websocket every second or two. Where no beat comes (websockets blocked, the line down)
 * this script asks the REST API for the same version instead, and says so only when that fails as well.
 */
(function () {
    "use strict";

    const TICK_MS = 1000;
    const SILENT_MS = 5000;
    const ASK_MS = 1500;
    const PATIENCE = 2;

    let topic = null;
    let version = null;
    let heardAt = performance.now() - SILENT_MS + 2500; // a page just opened gives the websocket 2.5 s
    let well = true;
    let askedAt = 0;
    let asking = false;
    let failures = 0;
    let failure = "";

    function topicOf(path) {
        if (path === "/") return "runs";
        const run = path.match(/^\/runs\/([^/]+)\/?$/);
        return run ? `run:${decodeURIComponent(run[1])}` : null;
    }

    function set(id, data) {
        if (window.dash_clientside?.set_props && document.getElementById("live-note")) {
            window.dash_clientside.set_props(id, { data });
            return true;
        }
        return false;
    }

    function follow() {
        const shown = topicOf(window.location.pathname);
        if (shown === topic || !set("live-topic", shown)) return;
        topic = shown;
        version = null;
    }

    function note(text) {
        const place = document.getElementById("live-note");
        if (!place || place.dataset.text === text) return;
        place.dataset.text = text;
        place.hidden = text === "";
        place.querySelector("#live-note-text").textContent = text;
    }

    /** The version of what is shown, from the REST API; live.py's VersionReader is its twin. */
    async function ask() {
        const options = { headers: { Accept: "application/json" }, cache: "no-store", signal: AbortSignal.timeout(8000) };
        if (topic === null) {
            await okOrThrow(await fetch("/healthz", options));
            return null;
        }
        if (topic === "runs") {
            const page = await (await okOrThrow(await fetch("/api/v1/runs?limit=100", options))).json();
            return page.items.map((run) => `${run.id}.${run.version}`).join() || "none";
        }
        const answer = await fetch(`/api/v1/runs/${encodeURIComponent(topic.slice("run:".length))}`, options);
        if (answer.status === 404) return "gone";
        return String((await (await okOrThrow(answer)).json()).version);
    }

    async function okOrThrow(answer) {
        if (answer.status >= 500) throw new Error("the server waits for its store");
        return answer;
    }

    async function askNow() {
        asking = true;
        askedAt = performance.now();
        const asked = topic;
        try {
            const found = await ask();
            failures = 0;
            well = true;
            if (asked === topic && found !== null && found !== version) {
                version = found;
                set("live-version", { topic, version });
            }
        } catch (error) {
            failures += 1;
            failure = error.message.startsWith("the server") ? error.message : "the server does not answer";
        } finally {
            asking = false;
        }
    }

    function tick() {
        follow();
        if (document.hidden) return;
        const now = performance.now();
        const silent = now - heardAt > SILENT_MS;
        document.documentElement.dataset.live = silent ? "polling" : "websocket";
        if (silent && !asking && now - askedAt > ASK_MS) askNow();
        if (silent && failures >= PATIENCE) note(`Reconnecting: ${failure}.`);
        else if (!silent && !well) note("Reconnecting: the server waits for its store.");
        else note("");
    }

    window.dash_clientside = window.dash_clientside || {};
    window.dash_clientside.quantLensLive = {
        beat(heard) {
            if (heard) {
                heardAt = performance.now();
                well = heard.well;
                failures = 0;
                version = null; // a later poll starts from scratch
            }
            return window.dash_clientside.no_update;
        },
    };

    setInterval(tick, TICK_MS);
    document.addEventListener("visibilitychange", tick);
    window.addEventListener("popstate", follow);
    for (const name of ["pushState", "replaceState"]) {
        const original = history[name];
        history[name] = function (...args) {
            const answer = original.apply(this, args);
            setTimeout(follow, 0);
            return answer;
        };
    }
})();

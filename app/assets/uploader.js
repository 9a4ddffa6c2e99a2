/* The drop zones of the New page: files dropped or chosen become uploads, each with a row that shows where it is.
 *
 * The page's markup names the places; everything is found again by them, so a page that Dash draws anew keeps working:
 *   data-ql-browse="model"   a button that opens the file chooser
 *   data-ql-drop="model"     a zone that lights up under a dragged file
 *   data-ql-rows="model"     where the upload's row is drawn (React owns the element, this script its inside)
 *   data-ql-limit="123"      on any ancestor: the largest file that the server takes, in bytes
 * A finished upload goes to Dash as the data of the store "uploaded-model", "uploaded-data" or "uploaded-calibration":
 * {"sha256", "filename", "size"}. The store "uploading" holds the names of what is still on its way.
 */
(function () {
    "use strict";

    const KINDS = ["model", "data", "calibration"];
    const OTHER = { model: "data", data: "model", calibration: "data" };
    const ASIDE = { model: "This is data", data: "This is a model", calibration: "This is the data" };
    const ENDPOINT = "/api/v1/uploads";
    const uploads = { model: null, data: null };
    let drawing = false;
    let dragDepth = 0;

    // ---------------------------------------------------------------- from a file to an upload

    const ONLY_DATA = /\.(npz|npy|csv|tsv|parquet|arrow|jsonl|ndjson|txt|text|md|wav|png|jpe?g|webp|bmp|ppm|pgm)$/i;
    const MOSTLY_MODELS = /\.(safetensors|pt2?|pth|th|ckpt|bin|gguf|onnx)$/i; // rows come as safetensors and .pt too

    /** By its extension where that says it, else by the zone it was dropped on; the row has a button to correct it. */
    function kindOf(file, zone, alone) {
        if (ONLY_DATA.test(file.name)) return zone === "calibration" ? zone : "data";
        if (MOSTLY_MODELS.test(file.name)) return (alone && zone) || "model";
        return zone || "model";
    }

    function take(files, zone) {
        const chosen = {};
        for (const file of files) chosen[kindOf(file, zone, files.length === 1)] = file;
        for (const [place, file] of Object.entries(chosen)) begin(file, place);
        const left = files.length - Object.keys(chosen).length;
        if (left > 0) announce(`A run takes one model and one data file: ${left} of ${files.length} files were left out.`);
    }

    function begin(file, kind) {
        const before = uploads[kind];
        if (before && before.tus.state !== "done") before.tus.cancel();
        const upload = { kind, tus: new window.quantLens.TusUpload(file, { url: ENDPOINT }), delivered: false, row: null };
        uploads[kind] = upload;
        const limit = limitOf(kind);
        upload.tus.addEventListener("progress", draw);
        upload.tus.addEventListener("state", () => { draw(); tellWhatIsOnItsWay(); });
        upload.tus.addEventListener("done", () => announce(`${file.name} is on the server.`));
        upload.tus.addEventListener("error", () => announce(`${file.name}: ${upload.tus.error.message}`));
        if (limit && file.size > limit) {
            upload.tus.error = {
                message: `${file.name} has ${bytes(file.size)}; this server takes files up to ${bytes(limit)}`,
                hint: "an administrator can raise QUANT_LENS_MAX_UPLOAD_BYTES",
            };
            upload.tus.become("failed");
        } else {
            announce(`Uploading ${file.name}.`);
            upload.tus.start();
        }
        draw();
    }

    function limitOf(kind) {
        const place = rowsOf(kind)?.closest("[data-ql-limit]");
        return place ? Number(place.dataset.qlLimit) : 0;
    }

    function drop(upload) {
        if (uploads[upload.kind] === upload) uploads[upload.kind] = null;
        if (upload.row) upload.row.remove();
        if (upload.tus.state !== "done") upload.tus.cancel();
        tellWhatIsOnItsWay();
    }

    function moveAside(upload) {
        const kind = OTHER[upload.kind];
        if (uploads[kind]) drop(uploads[kind]);
        uploads[upload.kind] = null;
        upload.kind = kind;
        uploads[kind] = upload;
        if (upload.row) upload.row.remove();
        upload.row = null;
        draw();
    }

    // ---------------------------------------------------------------- to Dash

    function rowsOf(kind) {
        return document.querySelector(`[data-ql-rows="${kind}"]`);
    }

    function deliver(upload) {
        if (upload.delivered || !window.dash_clientside?.set_props) return;
        upload.delivered = true;
        const { file, sha256 } = upload.tus;
        const data = { sha256, filename: file.name, size: file.size, at: Date.now() };
        window.dash_clientside.set_props(`uploaded-${upload.kind}`, { data });
        drop(upload);
    }

    function tellWhatIsOnItsWay() {
        if (!rowsOf("model") || !window.dash_clientside?.set_props) return;
        const names = KINDS.map((kind) => uploads[kind])
            .filter((upload) => upload && !["done", "failed", "cancelled"].includes(upload.tus.state))
            .map((upload) => upload.tus.file.name);
        window.dash_clientside.set_props("uploading", { data: names });
    }

    function announce(text) {
        const place = document.querySelector("[data-ql-announce]");
        if (place) place.textContent = text;
    }

    // ---------------------------------------------------------------- the row

    function draw() {
        if (drawing) return;
        drawing = true;
        setTimeout(() => {
            drawing = false;
            for (const kind of KINDS) drawUpload(uploads[kind]);
        }, 80);
    }

    function drawUpload(upload) {
        const place = upload && rowsOf(upload.kind);
        if (!place || upload.tus.state === "cancelled") return;
        if (upload.tus.state === "done") {
            deliver(upload);
            return;
        }
        if (!upload.row || upload.row.parentElement !== place) {
            upload.row = makeRow(upload);
            place.replaceChildren(upload.row);
            tellWhatIsOnItsWay();
        }
        fillRow(upload);
    }

    function makeRow(upload) {
        const row = element("div", "ql-upload", { role: "group", "aria-label": `Upload of ${upload.tus.file.name}` });
        const head = element("div", "ql-upload-head");
        head.append(
            element("span", "ql-upload-name", { title: upload.tus.file.name }, upload.tus.file.name),
            element("span", "ql-upload-facts"),
            button("ql-upload-aside", ASIDE[upload.kind], () => moveAside(upload)),
            button("ql-upload-again", "Try again", () => upload.tus.retry()),
            button("ql-upload-cancel", "×", () => drop(upload), `Cancel the upload of ${upload.tus.file.name}`),
        );
        const meter = element("div", "ql-upload-meter");
        const bar = element("div", "ql-upload-bar", { role: "progressbar", "aria-valuemin": 0, "aria-valuemax": 100 });
        bar.append(element("div", "ql-upload-fill"));
        meter.append(bar, element("span", "ql-upload-percent"));
        row.append(head, meter, element("div", "ql-upload-note"));
        return row;
    }

    function fillRow({ row, tus }) {
        const part = tus.file.size ? tus.sent / tus.file.size : 0;
        const percent = Math.floor(part * 100);
        row.dataset.state = tus.state;
        row.querySelector(".ql-upload-facts").textContent = factsOf(tus);
        row.querySelector(".ql-upload-fill").style.transform = `scaleX(${part})`;
        row.querySelector(".ql-upload-bar").setAttribute("aria-valuenow", percent);
        row.querySelector(".ql-upload-percent").textContent = `${percent} %`;
        row.querySelector(".ql-upload-again").hidden = !["failed", "pausing"].includes(tus.state);
        row.querySelector(".ql-upload-note").textContent = noteOf(tus);
    }

    function factsOf(tus) {
        const facts = [`${bytes(tus.sent, tus.file.size)} of ${bytes(tus.file.size)}`];
        if (tus.state === "sending" && tus.rate) facts.push(`${bytes(tus.rate)}/s`, `${duration(tus.secondsLeft)} left`);
        return facts.join(" · ");
    }

    function noteOf(tus) {
        if (tus.state === "failed") return [tus.error.message, tus.error.hint].filter(Boolean).join(". ");
        if (tus.state === "pausing") return `${sentence(tus.error.message)} Trying again; nothing that was sent is lost.`;
        if (tus.state === "finishing") return "The server checks the hash.";
        if (tus.resumedAt > 0) return `Went on at ${bytes(tus.resumedAt)}, where the server stopped.`;
        return "Resumable: after a reload, drop the same file again and it goes on from here.";
    }

    function sentence(text) {
        return `${text.charAt(0).toUpperCase()}${text.slice(1)}.`;
    }

    function element(tag, name, attributes = {}, text = null) {
        const made = document.createElement(tag);
        made.className = name;
        for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
        if (text !== null) made.textContent = text;
        return made;
    }

    function button(name, text, act, label = null) {
        const made = element("button", name, label ? { type: "button", "aria-label": label } : { type: "button" }, text);
        made.addEventListener("click", act);
        return made;
    }

    /** Decimal units, three digits; in the unit of `whole` where that is given, so that "41.3 of 58.0 MB" reads well. */
    function bytes(count, whole = null) {
        const units = ["B", "kB", "MB", "GB", "TB"];
        let step = 0;
        for (let rest = whole ?? count; rest >= 1000 && step < units.length - 1; rest /= 1000) step += 1;
        const value = count / 1000 ** step;
        const digits = step === 0 ? 0 : value >= 100 ? 0 : value >= 10 ? 1 : 2;
        return whole === null ? `${value.toFixed(digits)} ${units[step]}` : value.toFixed(digits);
    }

    function duration(seconds) {
        if (seconds === null) return "";
        if (seconds < 60) return `${Math.max(1, Math.round(seconds))} s`;
        if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${Math.round(seconds % 60)} s`;
        return `${Math.floor(seconds / 3600)} h ${Math.round(seconds % 3600 / 60)} min`;
    }

    // ---------------------------------------------------------------- dragging and choosing

    function onPage() {
        return rowsOf("model") !== null;
    }

    function carriesFiles(event) {
        return onPage() && Array.from(event.dataTransfer?.types || []).includes("Files");
    }

    function lightUp(target) {
        document.documentElement.toggleAttribute("data-ql-dragging", dragDepth > 0);
        for (const zone of document.querySelectorAll("[data-ql-drop]")) {
            zone.toggleAttribute("data-ql-over", dragDepth > 0 && target instanceof Node && zone.contains(target));
        }
    }

    window.addEventListener("dragenter", (event) => {
        if (!carriesFiles(event)) return;
        event.preventDefault();
        dragDepth += 1;
        lightUp(event.target);
    });
    window.addEventListener("dragover", (event) => {
        if (carriesFiles(event)) event.preventDefault();
    });
    window.addEventListener("dragleave", (event) => {
        if (!carriesFiles(event)) return;
        dragDepth = Math.max(0, dragDepth - 1);
        lightUp(event.target);
    });
    window.addEventListener("drop", (event) => {
        if (!carriesFiles(event)) return;
        event.preventDefault();
        dragDepth = 0;
        lightUp(null);
        take(Array.from(event.dataTransfer.files), event.target.closest?.("[data-ql-drop]")?.dataset.qlDrop);
    });

    document.addEventListener("click", (event) => {
        const opener = event.target.closest?.("[data-ql-browse]");
        if (!opener) return;
        const chooser = document.createElement("input");
        chooser.type = "file";
        chooser.multiple = true;
        chooser.addEventListener("change", () => take(Array.from(chooser.files), opener.dataset.qlBrowse));
        chooser.click();
    });

    // A page that comes back finds its uploads still running.
    new MutationObserver(() => {
        const homeless = (upload) => upload && rowsOf(upload.kind) && upload.row?.parentElement !== rowsOf(upload.kind);
        if (KINDS.some((kind) => homeless(uploads[kind]))) draw();
    }).observe(document.documentElement, { childList: true, subtree: true });
})();

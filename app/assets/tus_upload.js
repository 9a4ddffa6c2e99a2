/* One file on its way to the server, in tus 1.0: made with POST, sent with PATCH chunk by chunk, resumed with HEAD.
 *
 * A chunk is a slice of the file on disk, handed to the browser as it is: nothing of the file is held in script.
 * A broken connection is retried with growing pauses; the server's offset, never our own count, says where to go on.
 * The upload's address is kept in localStorage under (name, size, lastModified), so that after a reload the same
 * file goes on where the server stopped.
 *
 *   const upload = new quantLens.TusUpload(file, { url: "/api/v1/uploads" });
 *   upload.addEventListener("progress", () => upload.sent, upload.rate);
 *   upload.addEventListener("done", () => upload.sha256);
 *   upload.addEventListener("error", () => upload.error.message);
 *   upload.start();
 */
(function () {
    "use strict";

    const MEBIBYTE = 1024 * 1024;
    const LARGEST_CHUNK = 8 * MEBIBYTE;
    const SMALLEST_CHUNK = 256 * 1024;
    const PAUSES_MS = [500, 1000, 2000, 4000, 8000, 15000, 15000, 30000, 30000, 30000];
    const RATE_WINDOW_MS = 6000;
    const REMEMBER_MS = 7 * 24 * 3600 * 1000;
    const STORAGE_PREFIX = "quant-lens:upload:";

    /** What the server (or the browser) says went wrong, in words for a person. */
    class UploadError extends Error {
        constructor(message, { hint = "", code = "upload_failed", status = 0 } = {}) {
            super(message);
            this.hint = hint;
            this.code = code;
            this.status = status;
        }

        get mayPass() {
            return this.status === 0 || this.status === 408 || this.status === 423 || this.status === 429
                || this.status >= 500 && this.status !== 507;
        }
    }

    class TusUpload extends EventTarget {
        constructor(file, { url }) {
            super();
            this.file = file;
            this.endpoint = url;
            this.address = null;
            this.sent = 0;
            this.state = "waiting"; // waiting, sending, pausing, finishing, done, failed, cancelled
            this.sha256 = null;
            this.error = null;
            this.resumedAt = 0;
            this.chunk = LARGEST_CHUNK;
            this.request = null;
            this.samples = [];
            this.wake = null;
        }

        /** Bytes a second over the last few seconds; null until it can be said. */
        get rate() {
            const first = this.samples[0];
            const last = this.samples[this.samples.length - 1];
            if (!first || last.at - first.at < 400) return null;
            return Math.max(0, (last.sent - first.sent) / (last.at - first.at) * 1000);
        }

        /** Seconds until all is sent, at the present rate; null until it can be said. */
        get secondsLeft() {
            return this.rate ? (this.file.size - this.sent) / this.rate : null;
        }

        async start() {
            try {
                if (this.file.size === 0) {
                    throw new UploadError(`${this.file.name} is empty`, {
                        code: "empty_file", hint: "choose a file with something in it", status: 400,
                    });
                }
                await this.persistently(() => this.send());
                if (this.state !== "cancelled") this.finish();
            } catch (error) {
                if (this.state === "cancelled") return;
                this.error = error;
                this.become("failed");
            }
        }

        /** Stop, and let the server forget what it has. */
        async cancel() {
            const address = this.address;
            this.become("cancelled");
            if (this.request) this.request.abort();
            if (this.wake) this.wake();
            forget(this.file);
            if (address) await this.ask("DELETE", address).catch(() => null);
        }

        /** Go on at once, after a failure or in a pause. */
        retry() {
            if (this.wake) this.wake();
            else if (this.state === "failed") this.start();
        }

        async send() {
            this.become("sending");
            const known = this.address || recall(this.file);
            const found = known ? await this.offsetAt(known) : null;
            if (found === null) {
                await this.create();
            } else {
                this.address = known;
                this.reach(found.offset);
                this.resumedAt = found.offset;
                this.sha256 = found.sha256;
                this.samples = [];
            }
            while (this.sent < this.file.size && this.state === "sending") await this.sendChunk();
            if (this.state === "sending" && !this.sha256) await this.fetchHash();
        }

        async create() {
            const answer = await this.ask("POST", this.endpoint, {
                "Upload-Length": String(this.file.size),
                "Upload-Metadata": `filename ${base64(this.file.name)},filetype ${base64("application/octet-stream")}`,
            });
            this.address = new URL(answer.header("Location"), window.location.href).pathname;
            this.resumedAt = 0;
            this.reach(0);
            remember(this.file, this.address);
        }

        /** What the server has of an upload; null when it knows nothing of it. */
        async offsetAt(address) {
            try {
                const answer = await this.ask("HEAD", address);
                const length = Number(answer.header("Upload-Length") || this.file.size);
                if (length !== this.file.size) return null;
                return { offset: Number(answer.header("Upload-Offset")), sha256: answer.header("Quant-Lens-Sha256") };
            } catch (error) {
                if (error.mayPass || error.status === 401) throw error;
                forget(this.file);
                this.address = null;
                return null;
            }
        }

        async sendChunk() {
            const from = this.sent;
            const body = this.file.slice(from, Math.min(from + this.chunk, this.file.size));
            try {
                const answer = await this.ask("PATCH", this.address, {
                    "Upload-Offset": String(from), "Content-Type": "application/offset+octet-stream",
                }, body, (loaded) => this.reach(from + loaded));
                this.reach(Number(answer.header("Upload-Offset")));
                this.sha256 = answer.header("Quant-Lens-Sha256");
            } catch (error) {
                if (error.status === 413 && body.size > SMALLEST_CHUNK) {
                    this.chunk = Math.max(SMALLEST_CHUNK, this.chunk / 2);
                    this.reach(from);
                    return;
                }
                if (error.status === 409) { // the server's offset is another: ask for it
                    const found = await this.offsetAt(this.address);
                    if (found === null || found.offset === from) throw error;
                    this.reach(found.offset);
                    return;
                }
                throw error;
            }
        }

        async fetchHash() {
            this.become("finishing");
            const found = await this.offsetAt(this.address);
            if (!found || !found.sha256) {
                throw new UploadError(`the server has all of ${this.file.name} but gave no hash`, { status: 503 });
            }
            this.sha256 = found.sha256;
        }

        finish() {
            forget(this.file);
            this.become("done");
        }

        /** Do `work`, and again after a pause as long as what failed may pass; progress in between starts afresh. */
        async persistently(work) {
            let tries = 0;
            for (;;) {
                const before = this.sent;
                try {
                    return await work();
                } catch (error) {
                    if (this.state === "cancelled") return null;
                    if (!error.mayPass) throw error;
                    if (this.sent > before) tries = 0;
                    if (tries >= PAUSES_MS.length) throw error;
                    this.error = error;
                    this.become("pausing");
                    await this.pause(PAUSES_MS[tries]);
                    if (this.state === "cancelled") return null;
                    this.error = null;
                    tries += 1;
                }
            }
        }

        pause(milliseconds) {
            return new Promise((resolve) => {
                const timer = setTimeout(end, milliseconds);
                const upload = this;
                function end() {
                    clearTimeout(timer);
                    window.removeEventListener("online", end);
                    upload.wake = null;
                    resolve();
                }
                window.addEventListener("online", end);
                this.wake = end;
            });
        }

        reach(offset) {
            this.sent = offset;
            const now = performance.now();
            this.samples.push({ at: now, sent: offset });
            while (this.samples.length > 2 && now - this.samples[0].at > RATE_WINDOW_MS) this.samples.shift();
            this.dispatchEvent(new Event("progress"));
        }

        become(state) {
            this.state = state;
            this.dispatchEvent(new Event("state"));
            if (state === "done") this.dispatchEvent(new Event("done"));
            if (state === "failed") this.dispatchEvent(new Event("error"));
        }

        /** One request. XMLHttpRequest, because fetch does not tell how much of a body has gone. */
        ask(method, address, headers = {}, body = null, onSent = null) {
            return new Promise((resolve, reject) => {
                const request = new XMLHttpRequest();
                request.open(method, address);
                request.setRequestHeader("Tus-Resumable", "1.0.0");
                for (const [name, value] of Object.entries(headers)) request.setRequestHeader(name, value);
                if (onSent) request.upload.onprogress = (event) => onSent(event.loaded);
                request.onload = () => {
                    if (request.status >= 200 && request.status < 300) {
                        resolve({ header: (name) => request.getResponseHeader(name) });
                    } else {
                        reject(errorOf(request));
                    }
                };
                request.onerror = request.ontimeout = request.onabort = () => reject(
                    new UploadError("the connection to the server broke", { code: "connection_lost" }),
                );
                request.send(body);
                if (method !== "DELETE") this.request = request;
            });
        }
    }

    /** The server's own words where it gave the one error shape, plain ones by status where it did not. */
    function errorOf(request) {
        const status = request.status;
        try {
            const body = JSON.parse(request.responseText).error;
            return new UploadError(body.message, { hint: body.hint, code: body.code, status });
        } catch {
            const plain = {
                401: "you are not signed in any more", 403: "the server refused this upload",
                404: "the server does not know this upload any more", 413: "the file is over the server's limit",
                507: "the server has no room for this file",
            };
            return new UploadError(plain[status] || `the server answered with status ${status}`, { status });
        }
    }

    function base64(text) {
        return btoa(String.fromCharCode(...new TextEncoder().encode(text)));
    }

    function keyOf(file) {
        return `${STORAGE_PREFIX}${file.name}|${file.size}|${file.lastModified}`;
    }

    // Private windows may have no storage: then a reload starts from the beginning, and nothing else is lost.
    function remember(file, address) {
        try {
            sweep();
            localStorage.setItem(keyOf(file), JSON.stringify({ address, at: Date.now() }));
        } catch { /* no storage */ }
    }

    function recall(file) {
        try {
            return JSON.parse(localStorage.getItem(keyOf(file)))?.address || null;
        } catch {
            return null;
        }
    }

    function forget(file) {
        try {
            localStorage.removeItem(keyOf(file));
        } catch { /* no storage */ }
    }

    function sweep() {
        for (const key of Object.keys(localStorage)) {
            if (!key.startsWith(STORAGE_PREFIX)) continue;
            const at = JSON.parse(localStorage.getItem(key) || "{}").at || 0;
            if (Date.now() - at > REMEMBER_MS) localStorage.removeItem(key);
        }
    }

    window.quantLens = window.quantLens || {};
    window.quantLens.TusUpload = TusUpload;
})();

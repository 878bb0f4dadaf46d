"use strict";
(() => {
  const timeline = document.getElementById("timeline");
  if (!timeline || !timeline.dataset.stream || !window.EventSource) return;
  const MOST = 200; // articles on the page
  const ANNOUNCE_MS = 5000;
  const pause = document.getElementById("pause");
  const live = document.getElementById("live");
  const news = document.getElementById("news");
  const missed = document.getElementById("missed");
  const empty = document.getElementById("empty");
  const meanwhile = new Map(); // what came while paused: html by number
  let isPaused = false, cameMeanwhile = new Set(), leftOffMeanwhile = 0, leftOff = 0, unannounced = 0, lostTimer = 0;

  const isFiltered = /[?&](signal|sender|receiver|slower|errors)=/.test(timeline.dataset.stream);
  const count = (number, one, many) => `${number.toLocaleString("en")} ${number === 1 ? one : many}`;
  const parsed = (html) => {
    const template = document.createElement("template");
    template.innerHTML = html; // rendered, and escaped, by the server
    return template.content.firstElementChild;
  };
  const focusable = (article) => [...article.querySelectorAll("a, summary, [tabindex]")];

  function replace(old, article) {
    const places = [...old.querySelectorAll("details")].map((each) => each.open);
    [...article.querySelectorAll("details")].forEach((each, index) => { each.open = Boolean(places[index]); });
    const place = focusable(old).indexOf(document.activeElement);
    old.replaceWith(article);
    const next = place < 0 ? null : focusable(article)[place];
    if (next) next.focus({ preventScroll: true });
  }

  function put(number, html) {
    const article = parsed(html);
    const old = document.getElementById(`g${number}`);
    if (old) { replace(old, article); return; }
    const older = [...timeline.children].find((each) => Number(each.dataset.number) < number);
    article.classList.add("is-new");
    timeline.insertBefore(article, older || null);
    unannounced += 1;
    while (timeline.children.length > MOST) {
      if (timeline.lastElementChild.contains(document.activeElement)) break;
      timeline.lastElementChild.remove();
    }
  }

  function show() {
    empty.hidden = timeline.children.length > 0;
    if (leftOff) {
      missed.replaceChildren(`${leftOff.toLocaleString("en")} more, not shown live; `);
      const link = document.createElement("a");
      link.href = location.href;
      link.textContent = isFiltered ? "reload shows what matches" : "reload shows them";
      missed.append(link);
      missed.hidden = false;
    }
    if (isPaused) live.textContent = `Paused; ${count(cameMeanwhile.size + leftOffMeanwhile, "change", "changes")} meanwhile.`;
  }

  function connect() {
    const source = new EventSource(timeline.dataset.stream);
    source.onopen = () => { clearTimeout(lostTimer); lostTimer = 0; if (!isPaused) live.textContent = "Live."; };
    source.onerror = () => {
      if (source.readyState === EventSource.CLOSED) { // refused: the browser does not try again
        clearTimeout(lostTimer);
        lostTimer = setTimeout(connect, 5000);
        live.textContent = "No connection; trying again.";
        fetch(timeline.dataset.stream, { method: "HEAD" }).then((response) => {
          if (response.status === 401) { clearTimeout(lostTimer); live.textContent = "Reload to log in again."; }
          if (response.status === 503) live.textContent = "Too many pages are open; trying again.";
        }).catch(() => {});
      } else if (!lostTimer) {
        lostTimer = setTimeout(() => { live.textContent = "No connection; trying again."; }, 2000);
      }
    };
    source.addEventListener("restart", () => {
      const address = new URL(location);
      if (address.searchParams.has("after")) { // a number of the application as it was before
        address.searchParams.delete("after");
        location.replace(address);
        return;
      }
      timeline.replaceChildren(); meanwhile.clear(); cameMeanwhile.clear(); leftOff = leftOffMeanwhile = 0; missed.hidden = true;
      news.textContent = "The application has started anew.";
      show();
    });
    source.onmessage = (event) => {
      const message = JSON.parse(event.data);
      if (isPaused) {
        leftOffMeanwhile += message.left_off;
        for (const { number, html } of message.groups) {
          cameMeanwhile.add(number); meanwhile.delete(number); meanwhile.set(number, html);
          if (meanwhile.size > MOST) { meanwhile.delete(meanwhile.keys().next().value); }
        }
      } else {
        leftOff += message.left_off;
        for (const { number, html } of message.groups) put(number, html);
      }
      show();
    };
  }

  pause.hidden = false;
  pause.addEventListener("click", () => {
    isPaused = !isPaused;
    pause.textContent = isPaused ? "Continue" : "Pause";
    if (!isPaused) {
      leftOff += leftOffMeanwhile + cameMeanwhile.size - meanwhile.size;
      for (const [number, html] of meanwhile) put(number, html);
      meanwhile.clear(); cameMeanwhile = new Set(); leftOffMeanwhile = 0;
      live.textContent = "Live.";
    }
    show();
  });
  // The newest number that this page shows, in place of the newest when it was loaded.
  document.getElementById("clear").addEventListener("click", (event) => {
    const first = timeline.firstElementChild;
    if (!first) return;
    const address = new URL(event.currentTarget.href);
    address.searchParams.set("after", Math.max(Number(address.searchParams.get("after")), Number(first.dataset.number)));
    event.currentTarget.href = address;
  });
  setInterval(() => {
    if (!unannounced) return;
    news.textContent = count(unannounced, "new transaction", "new transactions");
    unannounced = 0;
  }, ANNOUNCE_MS);
  live.textContent = "Connecting …";
  connect();
})();

// The list on a narrow screen: a drawer over the conversation, which cannot be reached meanwhile.

import { byId } from "./dom.js";

export function wireDrawer() {
  const opener = byId("open-drawer");
  const set = (isOpen) => {
    document.body.classList.toggle("drawer", isOpen);
    opener.setAttribute("aria-expanded", String(isOpen));
    byId("main").inert = isOpen && matchMedia("(max-width: 800px)").matches;
    if (isOpen) byId("search").focus();
    else opener.focus();
  };
  opener.addEventListener("click", () => set(true));
  byId("close-drawer").addEventListener("click", () => set(false));
  byId("scrim").addEventListener("click", () => set(false));
  new MutationObserver(() => { if (!document.body.classList.contains("drawer")) byId("main").inert = false; })
    .observe(document.body, { attributeFilter: ["class"] });
  addEventListener("keydown", (event) => { if (event.key === "Escape" && document.body.classList.contains("drawer")) set(false); });
}

// Light, dark, or as the system has it. Loaded first, so that nothing flashes.

const KEY = "cc-bridge.theme";
const NAMES = { system: "As the system", light: "Light", dark: "Dark" };

const kept = () => {
  try {
    return localStorage.getItem(KEY);
  } catch {
    return null;
  }
};

export function theme() {
  return kept() in NAMES ? kept() : "system";
}

export function setTheme(name) {
  try {
    localStorage.setItem(KEY, name);
  } catch {
    // for this page only, then
  }
  apply(name);
}

/** The next of the three; returns its name for people. */
export function nextTheme() {
  const names = Object.keys(NAMES);
  const next = names[(names.indexOf(theme()) + 1) % names.length];
  setTheme(next);
  return NAMES[next];
}

function apply(name) {
  document.documentElement.dataset.theme = name;
}

apply(theme());
addEventListener("storage", (event) => { if (event.key === KEY) apply(theme()); });

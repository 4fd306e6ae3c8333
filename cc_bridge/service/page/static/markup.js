// The only place where HTML becomes part of the page: what the service made of markdown, which nh3 has cleaned.

const policy = globalThis.trustedTypes?.createPolicy("cc-bridge", { createHTML: (html) => html });

/** A fragment of the service's HTML. */
export function fragment(html) {
  const template = document.createElement("template");
  template.innerHTML = policy ? policy.createHTML(html) : html;
  for (const wide of template.content.querySelectorAll("pre, table")) wide.tabIndex = 0; // they scroll, also by keyboard
  return template.content;
}

/**
 * Make a node's children those of a fragment, and keep what is equal: a text that grows does not flicker, and what
 * somebody has selected stays selected.
 */
export function morph(node, wanted) {
  let old = node.firstChild;
  const all = Array.from(wanted.childNodes);
  for (const [number, next] of all.entries()) {
    if (!old) {
      node.append(...all.slice(number));
      return;
    }
    const following = old.nextSibling;
    if (old.nodeType === Node.TEXT_NODE && next.nodeType === Node.TEXT_NODE) {
      if (old.data !== next.data) grow(old, next.data);
    } else if (old.nodeName === next.nodeName && sameAttributes(old, next)) {
      morph(old, next);
    } else {
      old.replaceWith(next);
    }
    old = following;
  }
  while (old) {
    const following = old.nextSibling;
    old.remove();
    old = following;
  }
}

function grow(text, data) {
  if (data.startsWith(text.data)) text.appendData(data.slice(text.data.length));
  else text.data = data;
}

function sameAttributes(one, other) {
  if (one.attributes.length !== other.attributes.length) return false;
  return Array.from(one.attributes).every((attribute) => other.getAttribute(attribute.name) === attribute.value);
}

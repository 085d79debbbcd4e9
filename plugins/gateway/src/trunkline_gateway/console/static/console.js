// Small helps for all pages. Every page works without them, except the playground.
"use strict";

// The menu of narrow screens.
for (const button of document.querySelectorAll("[data-menu]")) {
  const menu = document.getElementById(button.getAttribute("aria-controls"));
  button.addEventListener("click", () => {
    const open = menu.classList.toggle("open");
    button.setAttribute("aria-expanded", String(open));
  });
}

// Errors of a form get the focus, so that screen readers read them.
document.querySelector("[data-focus]")?.focus();

async function copy(button) {
  const source = document.getElementById(button.dataset.copy);
  const text = source.value ?? source.textContent;
  const label = button.dataset.label ?? (button.dataset.label = button.textContent);
  try {
    await navigator.clipboard.writeText(text);
    button.textContent = "Copied";
  } catch {
    // Pages that are not on HTTPS or loopback have no clipboard: select the text instead.
    const range = document.createRange();
    range.selectNodeContents(source);
    getSelection().removeAllRanges();
    getSelection().addRange(range);
    button.textContent = "Selected";
  }
  setTimeout(() => (button.textContent = label), 1500);
}

document.addEventListener("click", (event) => {
  const copying = event.target.closest("[data-copy]");
  if (copying) copy(copying);
  const choosing = event.target.closest("[data-choose-model]");
  const field = document.getElementById("field-s-default_model");
  if (choosing && field) {
    field.value = choosing.dataset.chooseModel;
    field.focus();
  }
});

// Links to a field that is wrong open what it is folded into.
document.addEventListener("click", (event) => {
  const link = event.target.closest('a[href^="#"]');
  const target = link && document.getElementById(link.getAttribute("href").slice(1));
  for (let parent = target?.closest("details"); parent; parent = parent.parentElement.closest("details")) parent.open = true;
  if (target?.matches("input, select, textarea")) {
    event.preventDefault();
    target.focus();
  }
});

"use strict";
// What a policy would free at another age: the sum of all days from there on.
const curves = JSON.parse(document.getElementById("data").textContent);
const units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];

function inWords(bytes) {
  let step = 0;
  while (bytes >= 1024 && step < units.length - 1) {
    bytes /= 1024;
    step += 1;
  }
  return `${step ? bytes.toFixed(1) : bytes} ${units[step]}`;
}

for (const policy of document.querySelectorAll(".policy")) {
  const { days } = curves[policy.dataset.target][policy.dataset.curve];
  const slider = policy.querySelector("input");
  slider.addEventListener("input", () => {
    const keep = Number(slider.value);
    let items = 0;
    let bytes = 0;
    for (const [day, count, size] of days) {
      if (day >= keep) {
        items += count;
        bytes += size;
      }
    }
    policy.querySelector(".days").textContent = `${keep} days`;
    policy.querySelector(".freed").textContent = `${inWords(bytes)} in ${items.toLocaleString("en")} items`;
  });
}

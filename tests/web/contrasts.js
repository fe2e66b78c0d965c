// The body of a function: texts on maps of less than 4.5 to 1, and marks of less than
// 3 to 1, against the boards they are on.
const context = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
const light = (colour) => {
  context.fillStyle = colour;
  context.fillRect(0, 0, 1, 1);
  const parts = [...context.getImageData(0, 0, 1, 1).data].slice(0, 3).map((v) => v / 255)
    .map((v) => (v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
  return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2];
};
const contrast = (a, b) => {
  const [low, high] = [light(a), light(b)].sort((x, y) => x - y);
  return (high + 0.05) / (low + 0.05);
};
const boards = [...document.querySelectorAll(".map .boards path")];
const at = (x, y) => boards.find((board) => {
  const box = board.getBoundingClientRect();
  return Math.hypot(box.x + box.width / 2 - x, box.y + box.height / 2 - y) < box.height / 2;
});
const poor = [];
for (const text of document.querySelectorAll(".map .labels text, .map .names text")) {
  const box = text.getBoundingClientRect();
  const board = at(box.x + box.width / 2, box.y + box.height / 2);
  if (!board) continue;
  const found = contrast(getComputedStyle(text).fill, getComputedStyle(board).fill);
  if (found < 4.5) poor.push([text.textContent, board.getAttribute("class"), found]);
}
for (const sample of document.querySelectorAll(".legend .sample")) {
  const mark = sample.querySelector(".mark");
  if (!mark || !sample.checkVisibility()) continue;
  const style = getComputedStyle(mark);
  const found = contrast(style.stroke, getComputedStyle(sample.querySelector("path")).fill);
  if (found < 3 || Number(style.opacity) < 1) poor.push([mark.getAttribute("class"), found, style.opacity]);
}
return poor;

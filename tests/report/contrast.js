// Every visible text of the page against the ground under it, by the WCAG 2 formula. Returns the pairs that are too close.
() => {
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = 1;
  const paint = canvas.getContext("2d", { willReadFrequently: true });
  const known = new Map();
  const rgba = (colour) => {
    if (!known.has(colour)) known.set(colour, painted(colour));
    return known.get(colour);
  };
  const painted = (colour) => {
    paint.clearRect(0, 0, 1, 1);
    paint.fillStyle = colour;
    paint.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = paint.getImageData(0, 0, 1, 1).data;
    return [r, g, b, a / 255];
  };
  const over = (top, below) => top.slice(0, 3).map((part, i) => part * top[3] + below[i] * (1 - top[3])).concat(1);
  const luminance = ([r, g, b]) => [r, g, b].map((part) => part / 255).map((part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4)).reduce((sum, part, i) => sum + part * [0.2126, 0.7152, 0.0722][i], 0);
  const ratio = (a, b) => { const [x, y] = [luminance(a), luminance(b)].sort((m, n) => n - m); return (x + 0.05) / (y + 0.05); };
  const ground = (element) => {
    const box = element.closest(".box, .band");
    const rect = box && box.querySelector(".box-back, rect");
    const fill = rect && getComputedStyle(rect).fill;
    if (fill && fill !== "none") return rgba(fill);
    if (rect) return rgba(getComputedStyle(document.querySelector(".band.layer-gold rect")).fill);
    const layers = [];
    for (let at = element; at; at = at.parentElement) layers.push(rgba(getComputedStyle(at).backgroundColor));
    return layers.reverse().reduce((below, top) => over(top, below), [255, 255, 255, 1]);
  };
  const poor = new Set();
  let looked = 0;
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    const element = texts.currentNode.parentElement;
    if (!texts.currentNode.data.trim() || element.closest("script, style, title, desc, .sr, .skip, option")) continue;
    if (!element.getClientRects().length) continue;
    const style = getComputedStyle(element);
    const behind = ground(element);
    const colour = over(rgba(element instanceof SVGElement ? style.fill : style.color), behind);
    const large = parseFloat(style.fontSize) >= 24 || (parseFloat(style.fontSize) >= 18.66 && parseInt(style.fontWeight) >= 700);
    looked += 1;
    const found = ratio(colour, behind);
    if (found < (large ? 3 : 4.5)) poor.add(`${element.tagName}.${element.getAttribute("class") || ""} "${texts.currentNode.data.trim().slice(0, 30)}" ${found.toFixed(2)}`);
  }
  return { looked, poor: [...poor].slice(0, 20) };
}

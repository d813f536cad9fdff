// Visible texts whose contrast with their background is under 4.5:1 (3:1 where large), as WCAG AA asks.
() => {
  const parse = (text) => {
    const [r, g, b, a = 1] = text.match(/[\d.]+/g).map(Number);
    return { r, g, b, a };
  };
  const over = (top, below) => ({
    r: top.r * top.a + below.r * (1 - top.a),
    g: top.g * top.a + below.g * (1 - top.a),
    b: top.b * top.a + below.b * (1 - top.a),
    a: 1,
  });
  const luminance = (colour) => {
    const linear = [colour.r, colour.g, colour.b].map((value) => {
      const share = value / 255;
      return share <= 0.03928 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2];
  };
  const background = (element) => {
    if (!element) return { r: 255, g: 255, b: 255, a: 1 };
    const text = getComputedStyle(element).backgroundColor;
    const own = text.startsWith("rgb") ? parse(text) : { r: 0, g: 0, b: 0, a: 0 };
    return own.a === 1 ? own : over(own, background(element.parentElement));
  };
  const bad = [];
  for (const element of document.querySelectorAll("body *")) {
    const hasText = [...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
    if (!hasText || !element.checkVisibility({ checkOpacity: true, checkVisibilityCSS: true })) continue;
    const style = getComputedStyle(element);
    const box = element.getBoundingClientRect();
    if (box.width < 2 || box.height < 2) continue;
    const below = background(element);
    const [light, dark] = [luminance(over(parse(style.color), below)), luminance(below)].sort((a, b) => b - a);
    const size = parseFloat(style.fontSize);
    const large = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
    const ratio = (light + 0.05) / (dark + 0.05);
    if (ratio < (large ? 3 : 4.5)) bad.push(`${ratio.toFixed(2)} ${element.className}: ${element.textContent.trim().slice(0, 40)}`);
  }
  return bad;
}

// What the painter consists of, and what it works on.
const painter = element.querySelector(".painter");
const stage = painter.querySelector(".painter-stage");
const sheet = painter.querySelector(".painter-sheet");
const picture = painter.querySelector(".painter-picture");
const maskCanvas = painter.querySelector(".painter-mask");
const haloCanvas = painter.querySelector(".painter-halo");
const cursor = painter.querySelector(".painter-cursor");
const sizeSlider = painter.querySelector(".painter-size input");
const zoomText = painter.querySelector('[data-role="zoom-all"]');
const context = maskCanvas.getContext("2d");
const current = { number: null, maskNumber: 0, width: 1, height: 1, stroke: null, erases: false, dirty: false, timer: 0 };

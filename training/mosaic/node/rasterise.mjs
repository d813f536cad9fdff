// SVG to pixels: JSON strings, one a line, on standard input -> premultiplied RGBA of SIZE x SIZE on standard output.
import { createInterface } from "node:readline";
import { Resvg } from "@resvg/resvg-js";

const size = Number(process.argv[2]);
for await (const line of createInterface({ input: process.stdin })) {
  const picture = new Resvg(JSON.parse(line), { fitTo: { mode: "width", value: size } }).render();
  if (picture.width !== size || picture.height !== size) {
    throw new Error(`a picture came out as ${picture.width} x ${picture.height}, wanted ${size} x ${size}`);
  }
  if (!process.stdout.write(picture.pixels)) {
    await new Promise((resolve) => process.stdout.once("drain", resolve));
  }
}

// Avatars of one DiceBear style: node avatars.mjs STYLE COUNT SEED OPTIONS -> JSON lines {svg, extra}; `extra` names
// the parts and colours that were drawn.
import { createAvatar } from "@dicebear/core";

const [name, count, seed, options] = process.argv.slice(2);
const style = await import(`@dicebear/${name}`);
for (let i = 0; i < Number(count); i++) {
  const avatar = createAvatar(style, { ...JSON.parse(options), seed: `${seed}-${i}` });
  const { svg, extra } = avatar.toJson();
  process.stdout.write(JSON.stringify({ svg, extra }) + "\n");
}

/** Loads and asks compiled policies that come as messages, one after another, and answers with the way that each went: a module may crash or never end, and takes only this process with it. */
import { gzipSync } from 'node:zlib';
import { PicketError } from '../../shared/errors/errors.ts';
import { createOpaWasmLoader } from '../../shared/policy/opa-wasm.ts';
import { buildTar } from '../../shared/policy/tar.ts';
import { outcomeOfRefusal } from './target.ts';

const INPUT = { caller: { path: '/web' }, request: { method: 'GET', path: '/a', headers: { a: 'b' } } };
const NOW_MS = 1_795_514_400_000;
const DATA = Buffer.from('{"roles":{"web":["read"]}}');
const loader = createOpaWasmLoader();

process.on('message', (wasm: Uint8Array) => void wayOf(wasm).then((way) => process.send?.(way)));
process.on('disconnect', () => process.exit());

async function wayOf(wasm: Uint8Array): Promise<string> {
  try {
    const tar = buildTar(
      new Map([
        ['policy.wasm', wasm],
        ['data.json', DATA],
      ]),
    );
    const engine = await loader.load(gzipSync(tar, { level: 1 }));
    // Twice: the second evaluation finds the instance as the first one left it.
    const answers = [...engine.entrypoints, ...engine.entrypoints].slice(0, 8).map((entrypoint) => {
      try {
        return typeof engine.evaluate(entrypoint, INPUT, NOW_MS);
      } catch (error) {
        if (error instanceof PicketError) return outcomeOfRefusal(error).slice(0, 60);
        throw error;
      }
    });
    return `loaded ${engine.entrypoints.length}: ${answers.join()}`;
  } catch (error) {
    if (error instanceof PicketError) return `${outcomeOfRefusal(error)} ${shapeOf(error.cause)}`;
    return `BROKEN ${error instanceof Error ? (error.stack ?? error.message) : Bun.inspect(error)}`;
  }
}

/** What the engine said, without numbers and names: only so are the ways of a module told apart that is refused as a whole. */
function shapeOf(cause: unknown): string {
  const message = cause instanceof Error ? cause.message : '';
  return message.replaceAll(/[^a-zA-Z ]+/g, '').slice(0, 60);
}

import type { Contender, PairMode } from './contenders/contender.ts';
import { LOAD_CORE, LOAD_UID } from './lab.ts';
import { h2load } from './load/h2load.ts';
import { wrk } from './load/wrk.ts';

/**
 * Code takes some seconds of full load to become hot, and at a low rate minutes; meanwhile compilers take their turns on the core of the pair. Those are milliseconds of the first
 * requests, not of a pair that runs.
 */
const SECONDS = 5;
const CONNECTIONS = 10;
const STREAMS = 10;

/** Some seconds of full load on each contender; with `isClosing` each request on a connection of its own. */
export async function warmUp(
  contenders: readonly Contender[],
  mode: PairMode,
  { isClosing = false }: { readonly isClosing?: boolean } = {},
): Promise<void> {
  for (const { caller, entry } of contenders) {
    const load = {
      host: caller,
      url: `http://${entry}/r`,
      uid: LOAD_UID,
      cores: LOAD_CORE,
      connections: CONNECTIONS,
      seconds: SECONDS,
      isClosing,
    };
    if (mode === 'http2') await h2load({ ...load, streams: STREAMS });
    else await wrk(load);
  }
}

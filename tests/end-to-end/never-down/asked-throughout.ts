import { expect } from 'bun:test';
import { decisionsBelow } from '../../kit/access-records.ts';
import type { ControlPlane } from '../../kit/control-plane.ts';
import type { TestHost } from '../../kit/netns.ts';
import { curl } from '../../kit/programs.ts';
import { waitUntil } from '../../kit/wait.ts';

/** Who asks whom, at port 80. */
export interface AskedWay {
  readonly from: TestHost;
  readonly uid: number;
  readonly address: string;
}

/** One request of many. */
interface Asked {
  /** Its own. */
  readonly path: string;
  readonly status: number;
}

/** So often each way is asked at least. */
const MIN_TURNS = 3;
/** Between two requests on one way, in milliseconds: who asks leaves the processors to what is asked. */
const PAUSE_MS = 50;

/** Asks all ways at once, on each one request after the other, while something is done; what became of each request, below `prefix`. */
export async function askThroughout(
  ways: readonly AskedWay[],
  prefix: string,
  work: () => Promise<unknown>,
): Promise<readonly Asked[]> {
  const isOver = new AbortController();
  const loads = ways.map(async ({ from, uid, address }, way) => {
    const asked: Asked[] = [];
    while (!isOver.signal.aborted || asked.length < MIN_TURNS) {
      const path = `${prefix}${way}-${asked.length}`;
      const { status } = await curl(from, { uid, args: [`http://${address}${path}`] });
      asked.push({ path, status });
      await Bun.sleep(PAUSE_MS);
    }
    return asked;
  });
  await work().finally(() => isOver.abort());
  return (await Promise.all(loads)).flat();
}

/** Each was answered, and is on record at the called side once: at one of `targets`. */
export async function expectAnsweredOnce(
  asked: readonly Asked[],
  {
    control,
    targets,
    prefix,
  }: { readonly control: ControlPlane; readonly targets: readonly string[]; readonly prefix: string },
): Promise<void> {
  expect(asked.filter(({ status }) => status !== 200)).toEqual([]);
  const recorded = await waitUntil('all is recorded', async () => {
    const found = await Promise.all(
      targets.map(async (target) => await decisionsBelow(control, target, prefix)),
    );
    return found.flat().length >= asked.length ? found.flat() : undefined;
  });
  expect(recorded.map(({ path }) => path ?? '').toSorted()).toEqual(asked.map(({ path }) => path).toSorted());
}

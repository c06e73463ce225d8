import { expect, test } from 'bun:test';
import { PicketError } from '../../shared/errors/errors.ts';
import { silentLog } from '../../tests/kit/datastore.ts';
import { FakeClock } from '../../tests/kit/fake-clock.ts';
import { KeptRoutes } from './kept-routes.ts';

const ROUTES = new Map([['10.8.0.2', { cookie: 7n }]]);

test('KeptRoutes keeps what it read for two seconds in which nothing can be read, tries often, and closes then', () => {
  const clock = new FakeClock();
  let isBroken = false;
  let reads = 0;
  const read = (): typeof ROUTES => {
    reads++;
    if (isBroken) throw new PicketError('unavailable', 'namespace_routes', 'they change');
    return ROUTES;
  };
  let found: ReadonlyMap<string, unknown> = new Map();
  const again = (): void => void (found = routes.find([]));
  const routes = new KeptRoutes({ read, again, clock, log: silentLog });
  again();
  isBroken = true;
  again();
  for (let ms = 0; ms < 1900; ms += 50) clock.advance(50);
  expect([found.size, reads]).toEqual([1, 40]);
  for (let ms = 0; ms < 150; ms += 50) clock.advance(50);
  expect(found.size).toBe(0);
  isBroken = false;
  clock.advance(1000);
  expect([found, clock.pending]).toEqual([ROUTES, 0]);
});

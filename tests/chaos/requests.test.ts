import { expect, test } from 'bun:test';
import { findLost, readRequests } from './requests.ts';

const REQUESTS = readRequests(
  [
    { path: '/kept/a', begun: 1, ended: 2, status: 200 },
    { path: '/kept/b', begun: 3, ended: 4, status: 403 },
    { path: '/flip/c', begun: 3, ended: 4, status: 403 },
    { path: '/flip/d', begun: 5, ended: 6, status: 502 },
    { path: '/flip/e', begun: 5, ended: 6, error: "ConnectionResetError(104, 'x')" },
    { path: '/kept/f', begun: 5, ended: 6, error: "ConnectionResetError(104, 'x')" },
    { path: '/single/e', begun: 7, ended: 9, error: 'refused' },
  ]
    .map((each) => JSON.stringify(each))
    .join('\n'),
);
const lost = (...windows: readonly (readonly [number, number])[]): readonly string[] =>
  findLost(
    REQUESTS,
    windows.map(([fromMs, untilMs]) => ({ fromMs, untilMs })),
  ).map(({ path }) => path);

test('findLost() names what failed where nothing was in the way', () => {
  expect(lost()).toEqual(['/kept/b', '/flip/d', '/kept/f', '/single/e']);
  expect(lost([8000, 8100])).toEqual(['/kept/b', '/flip/d', '/kept/f']);
  expect(lost([4000, 5000], [9500, 9900])).toEqual(['/single/e']);
});

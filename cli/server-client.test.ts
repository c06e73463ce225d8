import { afterEach, beforeEach, describe, expect, test } from 'bun:test';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { z } from 'zod';
import { pageOf } from '../shared/protocol/page.ts';
import { refusalOf } from '../tests/kit/refusal-of.ts';
import { ServerClient } from './server-client.ts';

/** A server on a unix socket that gives the numbers to 6, three a page. */

const page = pageOf(z.number());
const asked: string[] = [];
let folder: string;
let server: Bun.Server<undefined>;
let client: ServerClient;

beforeEach(() => {
  asked.length = 0;
  folder = mkdtempSync(join(tmpdir(), 'picket-client-'));
  const socket = join(folder, 'server.sock');
  server = Bun.serve({
    unix: socket,
    fetch: ({ url }) => {
      const { pathname, searchParams } = new URL(url);
      asked.push(`${pathname} ${searchParams.toString()}`);
      if (pathname === '/odd') return Response.json({ items: 'none' });
      const first = Number(searchParams.get('cursor') ?? 1);
      const items = [first, first + 1, first + 2];
      return Response.json({ items, next: first === 1 ? '4' : null });
    },
  });
  client = new ServerClient({ kind: 'socket', path: socket });
});
afterEach(async () => {
  await server.stop(true);
  rmSync(folder, { recursive: true });
});

describe('ServerClient', () => {
  test('getAll() asks for page after page until there is none', async () => {
    expect(await client.getAll('/numbers', page, { kind: 'whole' })).toEqual({
      items: [1, 2, 3, 4, 5, 6],
      next: null,
    });
    expect(asked).toEqual(['/numbers kind=whole&limit=1000', '/numbers kind=whole&cursor=4&limit=1000']);
  });

  test('get() refuses an answer of another form, and says that nobody answers', async () => {
    expect(await refusalOf(client.get('/odd', page))).toMatchObject({
      code: 'unavailable',
      reason: 'bad_answer',
    });
    const nowhere = new ServerClient({ kind: 'socket', path: join(folder, 'none.sock') });
    expect(await refusalOf(nowhere.get('/numbers', page))).toMatchObject({ reason: 'server_unreachable' });
  });
});

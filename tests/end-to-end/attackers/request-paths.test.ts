import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from 'bun:test';
import { accessPage } from '../../../shared/protocol/operator.ts';
import { waitUntil } from '../../kit/wait.ts';
import { SmugglingRig } from './smuggling-rig.ts';

/** What the policy decides on is what the application gets, paths and identity alike; and what an application answers is one answer. */

setDefaultTimeout(60_000);

let rig: SmugglingRig;

beforeAll(async () => {
  rig = await SmugglingRig.open();
}, 120_000);
afterAll(async () => await rig.close());

const ask = async (method: string, target: string, lines = ''): Promise<string> =>
  await rig.send(
    `${method} ${target} HTTP/1.1\r\nHost: shop\r\n${lines}Content-Length: 0\r\nConnection: close\r\n\r\n`,
  );

describe('a path', () => {
  // The policy lets /web PUT below /upload alone.
  for (const target of [
    '/upload/../secret',
    '/upload/./../secret',
    '/upload/..',
    '/upload/%2e%2e/secret',
    '/upload/.%2E/secret',
    '/upload/..%2fsecret',
    '/upload%2f..%2fsecret',
    '/upload/%252e%252e/secret/../../../secret',
    '/upload//../../secret',
    '//upload/../secret',
    '/upload/..;/secret',
    '/upload/..;x=y/secret',
    '/upload/..\\secret',
    '/upload/..%5csecret',
    '/upload/%00/../secret',
    '/upload/%c0%ae%c0%ae/%2e%2e/%2e%2e/secret',
    '/%75pload/../secret',
    '/%73ecret',
    '/s%65cret',
    '/Upload/../secret',
    '/secret?/upload/x',
    '/secret#/upload/x',
    '/secret;/upload/x',
    '/upload/../secret?x',
    'http://shop/upload/../secret',
    'http://shop/secret',
    '/upload/%',
    '/upload/%zz/../../secret',
    '/upload/%u002e%u002e/../../secret',
  ])
    test(`spelled ${target} does not lead past the policy`, async () => {
      const answer = await ask('PUT', target);
      expect(answer).toMatch(/^HTTP\/1\.1 4(00|03) /);
      expect(
        (await rig.requestLines()).filter((line) => line.startsWith('PUT') && line.includes('secret')),
      ).toEqual([]);
    });

  test('that is encoded twice stays encoded: policy and nginx read the same bytes', async () => {
    const answer = await ask('PUT', '/upload/%252e%252e%252fsecret');
    expect(answer).toMatch(/^HTTP\/1\.1 (200 .*uploaded|400 )/s);
  });

  test('is the same for the policy, the record and nginx, to the byte', async () => {
    const targets = [
      '/same/a%20b',
      '/same/%C3%A9',
      '/same/a+b;c=d,e',
      '/same/x?a=/../b&c=%2F..%2F&d=//&e=?',
      '/same/x?%00%0d%0a',
      '/SAME/x',
      '/same/...',
      '/same/.hidden',
      "/same/!$&'()*:@",
      '/same/%252e%252e/x',
      '/same/?',
      'http://shop/same/absolute?x',
    ];
    for (const target of targets) expect(await ask('GET', target)).toStartWith('HTTP/1.1 200');
    const lines = await rig.requestLines();
    const seen = lines.flatMap((line) => /^GET (\S*same\S*) /i.exec(line)?.[1] ?? []);
    expect(seen).toEqual(targets);
    const recorded = await waitUntil('the records are on the server', async () => {
      const { items } = await rig.shop.mesh.control.picketJson(
        accessPage,
        'audit',
        'access',
        '--limit',
        '200',
      );
      const paths = items
        .filter(({ direction, path }) => direction === 'inbound' && /same/i.test(path ?? ''))
        .map(({ path }) => path);
      return paths.length >= targets.length && paths;
    });
    const paths = targets.map((target) => target.replace('http://shop', ''));
    expect(recorded).toHaveLength(targets.length);
    expect(new Set(recorded)).toEqual(new Set(paths));
  });
});

describe('an identity that a client brings', () => {
  const forged = 'By=spiffe://example.org/invoices;URI=spiffe://example.org/admin';
  for (const [name, lines] of Object.entries({
    'in odd case': `x-FORWARDED-client-CERT: ${forged}\r\n`,
    twice: `X-Forwarded-Client-Cert: ${forged}\r\nX-Forwarded-Client-Cert: ${forged}\r\n`,
    'with underscores': `X_Forwarded_Client_Cert: ${forged}\r\n`,
    'with mixed dashes': `X-Forwarded_Client-Cert: ${forged}\r\n`,
    'with a blank before the colon': `X-Forwarded-Client-Cert : ${forged}\r\n`,
    'on a folded line': `X: y\r\n X-Forwarded-Client-Cert: ${forged}\r\n`,
    'behind a bare LF': `X: y\nX-Forwarded-Client-Cert: ${forged}\r\n`,
    'behind a bare CR': `X: y\rX-Forwarded-Client-Cert: ${forged}\r\n`,
    empty: 'X-Forwarded-Client-Cert:\r\n',
  }))
    test(`${name} never reaches nginx`, async () => {
      const answer = await ask('GET', '/whoami', lines);
      expect(answer).not.toContain('admin');
      const [, identity] = /identity=([^|]*)\|/.exec(answer) ?? [];
      if (identity === undefined) expect(answer).toStartWith('HTTP/1.1 400');
      else
        expect(identity).toMatch(
          /^By=spiffe:\/\/example\.org\/invoices;[^,]*URI=spiffe:\/\/example\.org\/web$/,
        );
    });
});

describe('response splitting', () => {
  test('by a path that nginx repeats in a header is refused; an honest redirect passes', async () => {
    const split = '%0d%0aSet-Cookie:%20stolen%0d%0a%0d%0a';
    for (const target of [`/redirect/${split}`, '/redirect/%0aX:y', '/redirect/%0dX:y']) {
      const answer = await ask('GET', target);
      expect(answer).toStartWith('HTTP/1.1 400');
      expect(answer).not.toContain('stolen');
    }
    expect(await ask('GET', '/redirect/x')).toMatch(
      /^HTTP\/1\.1 302 [^]*Location: http:\/\/shop\/redirect\/x\r\n/,
    );
  });

  const planted = 'HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\nplanted';
  for (const [name, text] of Object.entries({
    'an answer behind its answer': `HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n${planted}`,
    'CL.TE': `HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n${planted}`,
    'TE.CL': `HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n${planted}`,
    'two lengths': `HTTP/1.1 200 OK\r\nContent-Length: 0\r\nContent-Length: ${planted.length}\r\n\r\n${planted}`,
    'TE.TE': `HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: cow\r\n\r\n0\r\n\r\n${planted}`,
    'lines that end with LF alone': `HTTP/1.1 200 OK\nContent-Length: 0\n\n${planted}`,
    'a bare CR in a field': `HTTP/1.1 200 OK\r\nX: y\rContent-Length: 0\r\n\r\n${planted}`,
    'a folded field': `HTTP/1.1 200 OK\r\nX: y\r\n z\r\nContent-Length: 0\r\n\r\n${planted}`,
    'a body behind 204': `HTTP/1.1 204 No Content\r\n\r\n${planted}`,
    'a switch that nobody asked for': `HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n${planted}`,
    'a chunk extension that ends with LF alone': `HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0;a\n\r\n\r\n${planted}`,
    'no status line': `\r\n\r\n${planted.slice(9)}`,
    'HTTP/0.9': 'planted',
  }))
    test(`by an application that answers with ${name} reaches no later request`, async () => {
      const later = 'GET / HTTP/1.1\r\nHost: shop\r\nConnection: close\r\n\r\n';
      expect(await rig.askRogue(text, later)).not.toContain('planted');
    });
});

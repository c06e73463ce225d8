import { describe, expect, test } from 'bun:test';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { runOk } from '../../tests/kit/child.ts';
import { refusalOf } from '../../tests/kit/refusal-of.ts';
import { createMarkedAgent } from '../outgoing/marked-agents.ts';
import { createMarkedDial } from '../server-link/marked-dial.ts';
import { describeKeySource, type KeyPlace } from './contract.ts';
import { KeyUrl } from './key-url.ts';

interface Place extends KeyPlace {
  readonly url: URL;
  /** PEM. */
  readonly ca: string;
  answer: (request: Request) => Response;
}

/** A key and a certificate for 127.0.0.1, by openssl. */
async function makeCertificate(folder: string): Promise<{ readonly cert: string; readonly key: string }> {
  const [certificate, key] = [join(folder, 'tls.pem'), join(folder, 'tls.key')];
  const names = ['-subj', '/CN=keys', '-addext', 'subjectAltName=IP:127.0.0.1', '-days', '2'];
  const kind = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes'];
  await runOk(['openssl', 'req', '-x509', ...kind, ...names, '-keyout', key, '-out', certificate]);
  return { cert: readFileSync(certificate, 'utf8'), key: readFileSync(key, 'utf8') };
}

/** An HTTPS server. The connections carry no mark, which would need a privilege. */
async function open(): Promise<Place> {
  const folder = mkdtempSync(join(tmpdir(), 'picket-keys-'));
  const certificate = await makeCertificate(folder);
  const server = Bun.serve({
    hostname: '127.0.0.1',
    port: 0,
    tls: certificate,
    fetch: (request) => place.answer(request),
  });
  const url = new URL(`https://127.0.0.1:${server.port}/keys`);
  const agent = createMarkedAgent('https:', { dial: createMarkedDial(0), ca: certificate.cert });
  const place: Place = {
    url,
    ca: certificate.cert,
    source: new KeyUrl({ url, agent }),
    answer: () => new Response('not there', { status: 404 }),
    hold: async (text) => {
      place.answer = () =>
        text === undefined ? new Response('not there', { status: 404 }) : new Response(text);
      await Promise.resolve();
    },
    [Symbol.asyncDispose]: async () => {
      await server.stop(true);
      rmSync(folder, { recursive: true });
    },
  };
  return place;
}

describeKeySource('KeyUrl', open);

describe('KeyUrl', () => {
  test('read() follows no redirection', async () => {
    await using place = await open();
    place.answer = ({ url }) =>
      url.endsWith('/keys')
        ? new Response(null, { status: 302, headers: { location: '/other' } })
        : new Response('{}');
    expect(await refusalOf(place.source.read())).toMatchObject({
      reason: 'keys_unavailable',
      message: expect.stringContaining('302') as unknown,
    });
  });

  test('read() believes no server that another authority certified, and none that has another name', async () => {
    await using place = await open();
    await place.hold('{}');
    const dial = createMarkedDial(0);
    const stranger = createMarkedAgent('https:', { dial });
    const { url } = place;
    expect(await refusalOf(new KeyUrl({ url, agent: stranger }).read())).toMatchObject({
      reason: 'keys_unavailable',
    });
    const named = new URL(url.href.replace('127.0.0.1', 'localhost'));
    const agent = createMarkedAgent('https:', { dial, ca: place.ca });
    expect(await refusalOf(new KeyUrl({ url: named, agent }).read())).toMatchObject({
      reason: 'keys_unavailable',
    });
  });

  test('read() rejects where nobody answers', async () => {
    const place = await open();
    await place[Symbol.asyncDispose]();
    expect(await refusalOf(place.source.read())).toMatchObject({ reason: 'keys_unavailable' });
  });
});

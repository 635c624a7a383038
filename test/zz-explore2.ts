import { startWireNode, stopWireNode, openSession, bytesOf, digestOf, dataObjects, withDigest, until, pushBlob } from './support/wire-suite.js';
import { execFileSync } from 'node:child_process';
import { setTimeout as sleep } from 'node:timers/promises';
import { mkdtempSync, writeFileSync, rmSync, statfsSync } from 'node:fs';
for (const engine of ['uws','node'] as const) {
const node = await startWireNode(engine, {});
const { client } = node;
// aborted POST-only
{ const b = bytesOf(300_000); const d = digestOf(b);
  const o = client.open('POST', `/v2/x/y/blobs/uploads/?digest=${d}`, {'Content-Length': '300000'});
  o.request.write(b.subarray(0, 200_000)); await until('bytes', async () => (await dataObjects(node)).size > 0); o.request.destroy();
  await sleep(12_000); console.log(engine, 'after abort of POST-only', [...(await dataObjects(node)).values()]); }
// cancel mid-flight
{ const s = await openSession(client, 'x/z'); const o = client.open('PATCH', s, {'Transfer-Encoding': 'chunked'}); o.request.write('abc');
  await sleep(300); console.log(engine, 'cancel', (await client.send('DELETE', s)).status); await sleep(6000); o.request.write(bytesOf(200_000)); o.request.end();
  const a = await o.answer; console.log(engine, 'patch after cancel', a.status, a.body.toString()); await sleep(7000); console.log(engine, 'data', [...(await dataObjects(node)).values()]); }
await stopWireNode(node);
// disk
const dir = mkdtempSync('/tmp/ha-registry-tmpfs-'); execFileSync('mount', ['-t','tmpfs','-o','size=8m','tmpfs',dir]);
try {
 const n = await startWireNode(engine, {}, {root: dir});
 const c = n.client;
 const d0 = await pushBlob(c, 'd/k', bytesOf(100_000));
 for (const form of ['POST','PATCH','PUT', 'PATCHlen']) {
  const b = bytesOf(12_000_000, form); const d = digestOf(b);
  let a, s='';
  if (form === 'POST') a = await c.send('POST', `/v2/d/k/blobs/uploads/?digest=${d}`, {body: b});
  else { s = await openSession(c, 'd/k'); a = await c.send(form.slice(0,5) === 'PATCH' ? 'PATCH':'PUT', withDigest(s, d), {body: b, chunked: form === 'PATCH'}); }
  console.log(engine, form, a.status, a.body.toString(), 'conn', a.headers.connection, 'read', (await c.send('GET', `/v2/d/k/blobs/${d0}`)).status, statfsSync(dir).bavail*statfsSync(dir).bsize);
  if (s) { const g = await c.send('GET', s); console.log('  session', g.status, g.headers.range); const p = await c.send('PATCH', s, {body: 'x'}); console.log('  patch on', p.status, p.body.toString(), p.headers.range); const del = await c.send('DELETE', s); console.log('  delete', del.status); }
  await sleep(7000); console.log('  7 s later', [...(await dataObjects(n)).values()], statfsSync(dir).bavail*statfsSync(dir).bsize);
 }
 writeFileSync(dir + '/full', Buffer.alloc(Math.max(0, statfsSync(dir).bavail*statfsSync(dir).bsize)));
 { const a = await c.send('POST', `/v2/d/k/blobs/uploads/?digest=${digestOf('abc')}`, {body: 'abc'}); console.log(engine, 'small on full', a.status, a.body.toString()); }
 rmSync(dir + '/full');
 { const a = await c.send('POST', `/v2/d/k/blobs/uploads/?digest=${digestOf('abc')}`, {body: 'abc'}); console.log(engine, 'small after', a.status, a.body.toString()); }
 console.log(n.log().slice(0,1500));
 await stopWireNode(n);
} finally { execFileSync('umount', ['-l', dir]); }
}

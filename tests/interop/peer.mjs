// A peer of another implementation, driven by pytest: `node peer.mjs relay|light OPTIONS`.
// One JSON object a line. In: {id, do, …}. Out: {id, ok} or {id, fault}, and {event, …} whenever something is heard.

import { createHash, randomBytes } from 'node:crypto'
import { createInterface } from 'node:readline'

const [role, optionText] = process.argv.slice(2)
const options = JSON.parse(optionText)

const say = (line) => process.stdout.write(JSON.stringify(line) + '\n')
const sha256 = (bytes) => createHash('sha256').update(bytes).digest('hex')

// Payloads are drawn here, and told as length and hash: a line of 140 KB would only test the pipe.
const heard = (message, more = {}) => say({
  event: 'message', contentTopic: message.contentTopic, size: message.payload.length, sha256: sha256(message.payload), ...more
})

// -- Relay: js-libp2p and gossipsub ---------------------------------------------------------------------------------

async function startRelay () {
  const { createLibp2p } = await import('libp2p')
  const { gossipsub } = await import('@libp2p/gossipsub')
  const { identify } = await import('@libp2p/identify')
  const { noise } = await import('@libp2p/noise')
  const { circuitRelayServer, circuitRelayTransport } = await import('@libp2p/circuit-relay-v2')
  const { tcp } = await import('@libp2p/tcp')
  const { webSockets } = await import('@libp2p/websockets')
  const { yamux } = await import('@libp2p/yamux')
  const { mplex } = await import('@libp2p/mplex')
  const { lpStream } = await import('@libp2p/utils')
  const { multiaddr } = await import('@multiformats/multiaddr')
  const { proto_message: { WakuMessage }, proto_metadata: metadata } = await import('@waku/proto')

  const protocol = '/vac/waku/relay/2.0.0'
  const pubsub = gossipsub({ globalSignaturePolicy: 'StrictNoSign', fallbackToFloodsub: false, allowPublishToZeroTopicPeers: true, runOnLimitedConnection: true })
  const relay = (components) => {
    const router = pubsub(components)
    router.protocols = [protocol] // as @waku/relay does
    return router
  }
  const node = await createLibp2p({
    addresses: { listen: options.hidden ? [] : ['/ip4/127.0.0.1/tcp/0', '/ip4/127.0.0.1/tcp/0/ws'] },
    transports: [tcp(), webSockets(), circuitRelayTransport()],
    connectionEncrypters: [noise()],
    streamMuxers: [options.muxer === 'mplex' ? mplex() : yamux()],
    services: { identify: identify({ runOnLimitedConnection: true }), relay, ...(options.circuits ? { circuits: circuitRelayServer() } : {}) }
  })
  const router = node.services.relay
  const own = { clusterId: options.cluster, shards: options.shards }
  await node.handle('/vac/waku/metadata/1.0.0', async (stream) => {
    const frames = lpStream(stream)
    metadata.WakuMetadataRequest.decode(await frames.read())
    await frames.write(metadata.WakuMetadataResponse.encode(own))
    await stream.close()
  }, { runOnLimitedConnection: true })
  router.addEventListener('message', ({ detail }) => heard(WakuMessage.decode(detail.data), { topic: detail.topic }))
  node.addEventListener('peer:disconnect', ({ detail }) => say({ event: 'disconnected', peer: detail.toString() }))
  router.subscribe(options.topic)

  const doers = {
    addresses: () => node.getMultiaddrs().map(String),
    listen: async ({ address }) => { await node.components.transportManager.listen([multiaddr(address)]) },
    dial: async ({ address }) => (await node.dial(multiaddr(address))).remotePeer.toString(),
    metadata: async ({ address, cluster }) => {
      const frames = lpStream(await node.dialProtocol(multiaddr(address), '/vac/waku/metadata/1.0.0'))
      await frames.write(metadata.WakuMetadataRequest.encode({ clusterId: cluster, shards: [0] }))
      const { clusterId, shards } = metadata.WakuMetadataResponse.decode(await frames.read())
      return { clusterId, shards }
    },
    hangup: async () => { await Promise.all(node.getConnections().map((c) => c.close())) },
    mesh: () => router.getMeshPeers(options.topic),
    muxers: () => node.getConnections().map((c) => c.multiplexer),
    publish: async ({ contentTopic, size }) => {
      const payload = randomBytes(size)
      const timestamp = BigInt(Date.now()) * 1_000_000n
      const data = WakuMessage.encode({ payload, contentTopic, version: 0, timestamp, ephemeral: false })
      const { recipients } = await router.publish(options.topic, data)
      return { sha256: sha256(payload), recipients: recipients.length }
    },
    stop: () => node.stop()
  }
  return doers
}

// -- Light: the published SDK ---------------------------------------------------------------------------------------

async function startLight () {
  const { createLightNode } = await import('@waku/sdk')
  const node = await createLightNode({
    networkConfig: { clusterId: options.cluster, numShardsInCluster: options.shards.length },
    numPeersToUse: 1,
    libp2p: { filterMultiaddrs: false, hideWebSocketInfo: true }
  })
  node.libp2p.addEventListener('peer:disconnect', ({ detail }) => say({ event: 'disconnected', peer: detail.toString() }))
  const subscribed = new Map()
  const told = (message) => ({
    contentTopic: message.contentTopic, sha256: sha256(message.payload), size: message.payload.length, hash: message.hashStr
  })

  const doers = {
    dial: async ({ address, protocols }) => {
      await node.dial(address)
      await node.waitForPeers(protocols, 5000)
      return node.libp2p.getPeers().map(String)
    },
    shard: ({ contentTopic }) => node.createEncoder({ contentTopic }).pubsubTopic,
    push: async ({ contentTopic, size, legacy, ephemeral }) => {
      const payload = randomBytes(size)
      const encoder = node.createEncoder({ contentTopic, ephemeral })
      const { successes, failures } = await node.lightPush.send(encoder, { payload, timestamp: new Date() }, { useLegacy: legacy, autoRetry: false })
      return { sha256: sha256(payload), successes: successes.length, faults: failures.map((f) => f.error) }
    },
    subscribe: async ({ contentTopic }) => {
      const decoder = node.createDecoder({ contentTopic })
      subscribed.set(contentTopic, decoder)
      return await node.filter.subscribe(decoder, (message) => heard(message, { topic: message.pubsubTopic }))
    },
    unsubscribe: async ({ contentTopic }) => await node.filter.unsubscribe(subscribed.get(contentTopic)),
    query: async ({ contentTopic, hashes, start, end, ...more }) => {
      const pages = []
      const decoders = [node.createDecoder({ contentTopic })]
      const given = { ...more }
      if (hashes) given.messageHashes = hashes.map((h) => Uint8Array.from(Buffer.from(h, 'hex')))
      if (start) given.timeStart = new Date(start)
      if (end) given.timeEnd = new Date(end)
      for await (const page of node.store.queryGenerator(decoders, given)) {
        pages.push((await Promise.all(page)).filter((m) => m).map(told))
        if (hashes) break // the SDK asks by hash until a page is empty, which a page by hash never is
      }
      return pages
    },
    exchange: async ({ peer, count }) => {
      const { PeerExchange } = await import('./node_modules/@waku/discovery/dist/peer-exchange/peer_exchange.js') // the package exports its discovery alone
      const { peerIdFromString } = await import('@libp2p/peer-id')
      const { peerInfos, error } = await new PeerExchange(node.libp2p.components).query({ numPeers: count, peerId: peerIdFromString(peer) })
      if (error) throw new Error(error)
      return await Promise.all(peerInfos.map(async ({ ENR }) => ({
        peer: String(ENR.peerId), shards: ENR.shardInfo, waku: ENR.waku2, addresses: (await ENR.getAllLocationMultiaddrs()).map(String)
      })))
    },
    hangup: async () => { await Promise.all(node.libp2p.getConnections().map((c) => c.close())) },
    peers: () => node.libp2p.getPeers().map(String),
    stop: () => node.stop()
  }
  return doers
}

// -- The pipe -------------------------------------------------------------------------------------------------------

const doers = await (role === 'relay' ? startRelay() : startLight())
say({ event: 'ready' })
for await (const line of createInterface({ input: process.stdin })) {
  const { id, do: what, ...given } = JSON.parse(line)
  Promise.resolve().then(() => doers[what](given)).then(
    (ok) => say({ id, ok: ok ?? null }),
    (error) => say({ id, fault: String(error?.message ?? error) })
  )
}
process.exit(0)

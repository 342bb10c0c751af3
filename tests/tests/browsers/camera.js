// Before the page joins: the camera becomes a canvas of WIDTH × HEIGHT at RATE whose picture changes as much as GRAIN
// says (noise in squares of so many pixels; 0 is a plain moving picture), or there is none. Sounds stay as they are.
((camera) => {
    const devices = navigator.mediaDevices;
    const original = devices.getUserMedia.bind(devices);
    devices.getUserMedia = async ({ audio, video }) => {
        if (video && !camera) throw new DOMException('no camera', 'NotFoundError');
        const stream = new MediaStream();
        if (video) stream.addTrack(open(camera));
        if (audio) stream.addTrack((await original({ audio: true })).getAudioTracks()[0]);
        return stream;
    };

    // When the answer came, on the page's clock.
    const apply = RTCPeerConnection.prototype.setRemoteDescription;
    RTCPeerConnection.prototype.setRemoteDescription = function (description) {
        window.answeredAt ??= performance.now();
        return apply.call(this, description);
    };

    function open({ width, height, rate, grain }) {
        const canvas = Object.assign(document.createElement('canvas'), { width, height });
        const context = canvas.getContext('2d', { alpha: false });
        const sheets = grain > 0 ? [0, 1, 2, 3].map(() => noise(width / grain + 16, height / grain + 16)) : [];
        let frame = 0;
        const draw = () => {
            frame += 1;
            context.fillStyle = `hsl(${frame % 360} 60% 40%)`;
            context.fillRect(0, 0, width, height);
            if (grain > 0) {
                const [x, y] = [Math.random(), Math.random()].map((at) => -grain * Math.floor(16 * at));
                const sheet = sheets[frame % sheets.length];
                context.drawImage(sheet, x, y, sheet.width * grain, sheet.height * grain);
            }
            context.fillStyle = 'white';
            context.fillRect((frame * 8) % width, height / 3, 40, 40);
        };
        draw();
        const stream = canvas.captureStream(rate);
        setInterval(draw, 1000 / rate);
        return stream.getVideoTracks()[0];
    }

    function noise(width, height) {
        const canvas = Object.assign(document.createElement('canvas'), { width, height });
        const context = canvas.getContext('2d');
        const image = context.createImageData(canvas.width, canvas.height);
        for (let at = 0; at < image.data.length; at += 4) {
            image.data.set([256 * Math.random(), 256 * Math.random(), 256 * Math.random(), 255], at);
        }
        context.putImageData(image, 0, 0);
        return canvas;
    }
})(CAMERA)

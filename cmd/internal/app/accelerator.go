package app

import (
	"context"
	"errors"
	"log/slog"
	"runtime"
	"sync"

	"github.com/tasterhq/taster/cmd/internal/config"
	"github.com/tasterhq/taster/cmd/internal/trial"
	"github.com/tasterhq/taster/detect"
	"github.com/tasterhq/taster/detect/linalg"
	"github.com/tasterhq/taster/detect/policy"
)

// Accelerator is what does the detectors' matrix work.
type Accelerator struct {
	cuda *linalg.CUDA // nil: the CPU
	all  bool         // that there is to do goes to it, not only what is worth the way
	lost func(error)  // is told of every question that the CPU answers in its place
}

// OpenAccelerator opens what the choice says. CUDA where there is none is an error that says why, and that wraps [linalg.ErrUnavailable];
// with auto the CPU is taken instead, and why tells the reason.
func OpenAccelerator(choice config.Accelerator, lost func(error)) (a *Accelerator, why error, err error) {
	auto := choice.Use == config.Auto || choice.Use == ""
	a = &Accelerator{lost: lost, all: !auto}
	if choice.Use == config.CPU {
		return a, nil, nil
	}
	a.cuda, err = linalg.OpenCUDA(linalg.CUDAOptions{Device: choice.Use.Device(), Memory: choice.Memory})
	if err != nil && auto {
		return a, err, nil
	}
	return a, nil, err
}

// Detectors returns every detector, on the accelerator.
func (a *Accelerator) Detectors() []detect.Detector {
	if a == nil || a.cuda == nil {
		return policy.All()
	}
	engine := linalg.Engine(a.cuda)
	if !a.all {
		engine = linalg.Worthwhile(engine)
	}
	return policy.On(linalg.Watched{Engine: engine, Lost: a.lost})
}

// Close gives a device back.
func (a *Accelerator) Close() {
	if a != nil && a.cuda != nil {
		a.cuda.Close()
	}
}

// accelerate opens the configured accelerator, once, for the commands that score.
func (a *App) accelerate() error {
	if a.accelerator != nil {
		return nil
	}
	opened, why, err := OpenAccelerator(a.config.Accelerator, a.observe.acceleratorLost())
	if err != nil {
		return err
	}
	a.accelerator = opened
	if opened.cuda != nil {
		device := opened.cuda.Device()
		a.observe.device.WithLabelValues(device.Name).Set(1)
		a.log.Info("matrix work is done on a device", "device", device.Index, "name", device.Name, "driver", linalg.Driver())
	} else if why != nil {
		a.log.Debug("matrix work is done on the CPU", "reason", why)
	}
	return nil
}

// acceleratorLost returns what turns losses into one event and a metric: every question that the CPU answers instead is counted, and
// the first of each kind is told.
func (o *observer) acceleratorLost() func(error) {
	var gone, full sync.Once
	return func(err error) {
		if errors.Is(err, linalg.ErrFull) {
			o.fallbacks.WithLabelValues("memory").Inc()
			full.Do(func() {
				o.log.Warn("the device's memory does not suffice; the CPU does the work that does not fit, and nothing is lost", "error", err)
			})
			return
		}
		o.fallbacks.WithLabelValues("lost").Inc()
		gone.Do(func() {
			o.device.Reset()
			o.log.Error("the device is lost; the CPU does its work from here on, and nothing is lost", "error", err)
		})
	}
}

// LogLosses is for commands without metrics.
func LogLosses(log *slog.Logger) func(error) { return newObserver(log).acceleratorLost() }

// GPU is what TryAccelerator finds; its JSON form is public.
type GPU struct {
	Used    bool       `json:"used"`
	Reason  string     `json:"reason"` // why none is used
	Device  *int       `json:"device"` // the index of the one that is used
	Driver  string     `json:"driver"` // the version of CUDA that the driver supports
	Memory  int64      `json:"memory"` // bytes of the device that may be used
	Devices []Device   `json:"devices"`
	Kernels []KernelOf `json:"kernels"`
}

// Device is one device.
type Device struct {
	Index   int    `json:"index"`
	Name    string `json:"name"`
	Compute string `json:"compute_capability"`
	Memory  int64  `json:"memory"`
}

// KernelOf is work that was done by the device and by the CPU.
type KernelOf struct {
	Name          string  `json:"name"`
	LoadSeconds   float64 `json:"load_seconds"`   // of bringing what stays there to the device, once; 0: nothing stays
	DeviceSeconds float64 `json:"device_seconds"` // copies to the device and back included
	CPUSeconds    float64 `json:"cpu_seconds"`    // of all processors
	Difference    float64 `json:"largest_difference"`
	Allowed       float64 `json:"allowed_difference"`
}

// TryAccelerator tells what there is, and tries what would be used. With CUDA demanded, none is an error.
func TryAccelerator(ctx context.Context, choice config.Accelerator, size trial.Size) (*GPU, error) {
	g := &GPU{Devices: []Device{}, Kernels: []KernelOf{}, Driver: linalg.Driver()}
	devices, _ := linalg.Devices() // why there is none is told by who opens one
	for _, d := range devices {
		g.Devices = append(g.Devices, Device{d.Index, d.Name, d.Compute, d.Memory})
	}
	a, why, err := OpenAccelerator(choice, nil)
	switch {
	case err != nil:
		return nil, err
	case choice.Use == config.CPU:
		g.Reason = "the CPU was asked for"
		return g, nil
	case a.cuda == nil:
		g.Reason = why.Error()
		return g, nil
	}
	index := a.cuda.Device().Index
	g.Used, g.Device = true, &index
	_, g.Memory = a.cuda.Memory()
	a.Close() // its memory is wanted
	found, err := trial.Run(ctx, linalg.CUDAOptions{Device: index, Memory: choice.Memory}, size, runtime.GOMAXPROCS(0))
	for _, w := range found {
		g.Kernels = append(g.Kernels, KernelOf{w.Name, w.Load.Seconds(), w.Device.Seconds(), w.CPU.Seconds(), w.Difference, w.Allowed})
	}
	return g, err
}

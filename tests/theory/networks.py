"""Networks that people have, narrow enough for random ones to be measured."""
from torch import nn
from torch.nn import functional


def convolution_and_relu(channels, outputs, kernel=3, **options):
    return [nn.Conv2d(channels, outputs, kernel, **options), nn.ReLU()]


def lenet(activation=nn.ReLU, pool=nn.MaxPool2d):
    """LeCun et al. (1998) with padding, for (1, 28, 28) images; originally with Tanh and average pools."""
    return nn.Sequential(
        nn.Conv2d(1, 6, 5, padding=2), activation(), pool(2),
        nn.Conv2d(6, 16, 5), activation(), pool(2), nn.Flatten(),
        nn.Linear(400, 120), activation(), nn.Linear(120, 84), activation(), nn.Linear(84, 10))


def alexnet():
    """Krizhevsky's kind (2012), for (3, 64, 64) images: overlapping pools, padding, dropout."""
    return nn.Sequential(
        *convolution_and_relu(3, 16, 5, stride=2, padding=2), nn.MaxPool2d(3, 2),
        *convolution_and_relu(16, 32, 5, padding=2), nn.MaxPool2d(3, 2),
        *convolution_and_relu(32, 48, padding=1), *convolution_and_relu(48, 32, padding=1),
        *convolution_and_relu(32, 32, padding=1), nn.MaxPool2d(3, 2), nn.Flatten(),
        nn.Dropout(), nn.Linear(288, 64), nn.ReLU(), nn.Dropout(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))


def vgg11():
    """Simonyan and Zisserman's (2015), a quarter as wide, for (3, 32, 32) images."""
    def block(channels, outputs, convolutions):
        widths = [channels] + [outputs] * convolutions
        layers = [module for pair in zip(widths, widths[1:]) for module in convolution_and_relu(*pair, padding=1)]
        return [*layers, nn.MaxPool2d(2)]

    return nn.Sequential(
        *block(3, 16, 1), *block(16, 32, 1), *block(32, 64, 2), *block(64, 128, 2), *block(128, 128, 2), nn.Flatten(),
        nn.Linear(128, 64), nn.ReLU(), nn.Dropout(), nn.Linear(64, 64), nn.ReLU(), nn.Dropout(), nn.Linear(64, 10))


def perceptron(activation=nn.GELU):
    """For 50 features, with dropout."""
    return nn.Sequential(
        nn.Linear(50, 64), activation(), nn.Linear(64, 64), activation(), nn.Dropout(0.3),
        nn.Linear(64, 64), activation(), nn.Linear(64, 10))


class PreActivation(nn.Module):
    """He et al. (2016), without normalization."""

    def __init__(self, channels):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x):
        residual = self.conv1(functional.relu(x))
        residual = self.conv2(functional.relu(residual))
        return x + residual


class ResidualNet(nn.Module):
    """Eight convolutions, six of them in three pre-activation blocks, for (3, 8, 8) images."""

    def __init__(self, channels=16):
        super().__init__()
        self.stem = nn.Conv2d(3, channels, 3, padding=1)
        self.blocks = nn.Sequential(*(PreActivation(channels) for _ in range(3)))
        self.last = nn.Conv2d(channels, channels, 3, padding=1)
        self.fc = nn.Linear(64 * channels, 10)

    def forward(self, x):
        x = self.blocks(self.stem(x))
        x = self.last(functional.relu(x))
        x = functional.relu(x)
        return self.fc(x.view(x.size(0), -1))


class GlobalAverageNet(nn.Module):
    """Three convolutions without padding, then a global average, for (3, 16, 16) images."""

    def __init__(self, channels=16):
        super().__init__()
        self.conv1 = nn.Conv2d(3, channels, 3)
        self.conv2 = nn.Conv2d(channels, channels, 3)
        self.conv3 = nn.Conv2d(channels, 32, 3)
        self.fc = nn.Linear(32, 10)

    def forward(self, x):
        x = functional.relu(self.conv1(x))
        x = functional.relu(self.conv2(x))
        x = functional.relu(self.conv3(x))
        return self.fc(functional.adaptive_avg_pool2d(x, 1).flatten(1))


def padded_global_average_net():
    """With padding, a max pool and a global average, for (3, 16, 16) images."""
    return nn.Sequential(
        *convolution_and_relu(3, 16, padding=1), nn.MaxPool2d(2), *convolution_and_relu(16, 32, padding=1),
        *convolution_and_relu(32, 32, padding=1), *convolution_and_relu(32, 32, padding=1),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10))


def overlapping_pool_net():
    """With a 3x3 max pool of stride 2, as in ResNet's stem, and a global average, for (6, 12, 12) images."""
    return nn.Sequential(
        *convolution_and_relu(6, 24, padding=1), nn.MaxPool2d(3, 2, padding=1), *convolution_and_relu(24, 24),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(24, 10))


NETWORKS = {  # with the shape of an input
    "LeNet-5 with ReLU and max pools": (lenet(), (1, 28, 28)),
    "LeNet-5 of 1998: Tanh, average pools": (lenet(nn.Tanh, nn.AvgPool2d), (1, 28, 28)),
    "AlexNet's kind, narrow": (alexnet(), (3, 64, 64)),
    "VGG-11, a quarter as wide": (vgg11(), (3, 32, 32)),
    "perceptron with GELU and dropout": (perceptron(), (50,)),
    "pre-activation residual network": (ResidualNet(), (3, 8, 8)),
    "three convolutions, global average": (GlobalAverageNet(), (3, 16, 16)),
    "padding, max pool, global average": (padded_global_average_net(), (3, 16, 16)),
    "overlapping max pool, global average": (overlapping_pool_net(), (6, 12, 12)),
}

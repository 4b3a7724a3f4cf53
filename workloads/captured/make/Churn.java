// A JVM under load: a large old generation, of which parts are replaced all the time, and much short-lived garbage.
// Usage: java -Xms512m -Xmx512m -XX:+UseTransparentHugePages Churn.java
import java.util.concurrent.ThreadLocalRandom;

public class Churn {
    static final byte[][] kept = new byte[200_000][];

    public static void main(String[] args) throws Exception {
        for (int t = 0; t < 2; t++) {
            Thread worker = new Thread(Churn::churn);
            worker.setDaemon(true);
            worker.start();
        }
        Thread.sleep(15_000);
        System.out.println("ready");
        Thread.sleep(60_000);
    }

    static void churn() {
        ThreadLocalRandom random = ThreadLocalRandom.current();
        long sum = 0;
        while (true) {
            kept[random.nextInt(kept.length)] = new byte[random.nextInt(16, 2_500)];
            for (int i = 0; i < 20; i++) {
                sum += new byte[random.nextInt(16, 400)].length;
            }
            if (sum < 0) {
                System.out.println(sum);
            }
        }
    }
}
